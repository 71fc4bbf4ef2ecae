"""Search: an indexer that follows the truth, and words answered from it."""
