"""Real servers as processes of this machine: what to start, where it listens, how it is kept running.

`native.Lab` is the entry point: the rest of the codebase controls a lab through it. Its types: `provider`.
"""
