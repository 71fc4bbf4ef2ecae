"""The worker that carries tweets, deletes and follows into cached timelines."""
