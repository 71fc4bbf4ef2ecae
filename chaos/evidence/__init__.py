"""What invariants are judged on: the client history, the final reads and the canaries of a run."""
