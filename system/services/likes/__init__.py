"""Likes: which users like which tweets, and exact counts."""
