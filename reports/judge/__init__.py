"""The verdict of a run: its own validity, its objectives, its invariants."""
