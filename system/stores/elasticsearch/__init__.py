"""Full-text search on Elasticsearch."""
