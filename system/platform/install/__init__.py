"""The packages a lab needs, how they are fetched, and the checks before a start."""
