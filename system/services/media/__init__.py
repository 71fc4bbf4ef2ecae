"""Media: signed upload and read URLs."""
