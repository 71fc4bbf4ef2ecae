"""The digital twin: the system's own policies on simulated stations, answering the same scenario files.

Reads: a scenario, a population graph, a tape of arrivals and a calibration. Writes: a record of the same shape as a
real run. Starts nothing and needs Python alone.
"""
