"""A lab in use: its session, keys, regions, monitoring, logs and traces."""
