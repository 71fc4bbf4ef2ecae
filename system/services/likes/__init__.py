"""Likes: who likes what, and exact counts of it."""
