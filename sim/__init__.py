"""The digital twin: a simulation that runs the system's own policies on the same scenario files.

Reads: a scenario, a population graph, a tape of arrivals and a calibration. Writes: a record in the same
format as a real run. Starts no server and needs only Python.
"""
