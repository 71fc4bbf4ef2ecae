"""The worker that publishes outbox rows that were not published."""
