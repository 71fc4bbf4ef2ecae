"""Tweets: post, reply, delete, read by id and by author."""
