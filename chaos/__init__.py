"""Fault injection into the real system, and the invariants that must hold through every fault."""
