"""Regions as network namespaces: the network, the WAN emulator, and where the primaries are placed."""
