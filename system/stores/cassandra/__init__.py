"""Tweets and their outbox on Cassandra."""
