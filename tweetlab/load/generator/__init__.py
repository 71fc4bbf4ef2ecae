"""The load generator: runs in Locust's process, where nothing but HTTP, numpy and JSON may be imported."""
