"""Measurements of the twin itself."""
