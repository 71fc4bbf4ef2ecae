"""Open-loop load: Locust plays a tape in its own process; a run is judged by the history that it records.

`driver` is the entry point. `generator.process` and what it imports (`player`, `journeys`, `wire`, ...) run
in Locust's process, which is monkey-patched by gevent: nothing but HTTP, numpy and JSON may be imported
there.
"""
