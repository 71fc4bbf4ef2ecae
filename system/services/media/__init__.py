"""Media: signed uploads to storage, signed reads through the edge cache, and the cleanup of orphans."""
