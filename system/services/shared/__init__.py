"""What several services do alike: JSON shapes, reading through caches, building cached lists, listening."""
