"""Mutation tests of the invariants: evidence of a correct system, and mutations that must fail."""
