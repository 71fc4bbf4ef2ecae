"""Adapters that implement the ports on real servers, one file per port."""
