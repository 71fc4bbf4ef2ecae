"""The live console: a read-only dashboard of the lab, served on loopback."""
