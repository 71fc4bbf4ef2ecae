"""The event log on Kafka. Topics: `topics.md`."""
