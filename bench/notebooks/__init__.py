"""The notebooks: sources, and their executed copies."""
