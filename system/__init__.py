"""The Twitter itself: kernel, platform, ports, stores and services. It knows nothing of the harness above it."""
