"""Measures this machine for the twin: the experiments, the fingerprint of the machine, and where the result is kept."""
