"""Real servers as processes of this machine: what to start, where it listens, how it is kept alive.

`native.Lab` is the door: the rest of the house speaks to it alone. See `provider` for its promises.
"""
