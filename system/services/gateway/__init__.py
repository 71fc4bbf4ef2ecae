"""The edge: tokens, deadlines, limits, and the way to the service behind the mesh."""
