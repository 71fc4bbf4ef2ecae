"""One run of a scenario: seeding, warm-up, load, evidence, record."""
