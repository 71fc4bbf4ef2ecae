"""The services. Each has a `policy` (decides), `handlers` (does) and an `app` or `worker` (listens)."""
