"""Search: an indexer that keeps documents up to date with the stores, and queries over its index."""
