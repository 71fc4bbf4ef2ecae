"""Home timelines: read from Redis, rebuilt from PostgreSQL and Cassandra."""
