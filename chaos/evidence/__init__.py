"""What a run leaves for the invariants: client history, final reads, canaries."""
