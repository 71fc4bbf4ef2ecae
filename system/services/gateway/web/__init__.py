"""The web client: a page at `/` and its files, served by the gateway.

It uses only the public API.
"""
