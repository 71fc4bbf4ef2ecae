"""Rows about the lab in containers."""
