"""Sweeps: one scenario at many points of its settings, on the twin or on the system, with the knee and the bottleneck."""
