"""Texts: conformance with Twitter's rules, the time until a mention is visible, and the generator of the rules' data."""
