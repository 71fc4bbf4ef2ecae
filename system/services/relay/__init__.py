"""The worker that publishes what stands in an outbox and was not published."""
