"""Regions as network namespaces: the network, the WAN emulator, and primary placement."""
