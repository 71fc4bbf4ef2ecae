"""Open-loop load: Locust as its own process plays a tape; the history it leaves is what a run is judged by.

`driver` is the door. `child` and what it imports (`player`, `journeys`, `wire`, ...) live in Locust's process, which
is monkey-patched by gevent: nothing but HTTP, numpy and JSON may be imported there.
"""
