"""Home timelines: read from Redis, rebuilt from Cassandra."""
