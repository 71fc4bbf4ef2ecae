"""Self-checks: how often `compare`, share bounds and the load generator are wrong, measured against known results."""
