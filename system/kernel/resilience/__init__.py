"""Retry budget, circuit breaker, bulkhead, rate window and scaling decisions. Pure: callers pass the time in."""
