"""What every room may use: ids, events, errors, clock, policies, retry, breaker. Imports nothing of ours."""
