"""Users, likes, media, tokens, idempotency keys and leases on PostgreSQL."""
