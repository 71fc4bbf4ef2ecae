"""The faults a drill can inject, and their targets. `table.FAULTS` is the list."""
