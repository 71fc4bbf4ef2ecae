"""The faults that a scenario can inject, and their targets. `table.FAULTS` lists them."""
