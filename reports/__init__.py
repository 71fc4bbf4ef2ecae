"""The record of a run, its verdict, and its report.

`finish.finish(folder, facts)` processes one run. It calls, in this order, `summary` (numbers), `judge` (is the
run valid, does it meet its objectives and invariants), `record` (files) and `page` (the report). This package
starts no process and talks to no server: it turns values into values and files.
"""
