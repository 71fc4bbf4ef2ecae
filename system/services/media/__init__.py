"""Media: signed uploads to storage, signed reads through the edge, and the collection of what nobody wants."""
