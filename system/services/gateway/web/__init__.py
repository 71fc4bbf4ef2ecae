"""The web client: a page of ours at `/` and its files, served by the gateway.

Everything it does goes over the public API.
"""
