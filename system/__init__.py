"""The Twitter itself: kernel, platform, ports, stores and services.

It does not depend on the harness above it.
"""
