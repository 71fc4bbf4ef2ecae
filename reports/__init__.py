"""What a run leaves behind, how it is judged, and the page that tells it.

The path of one run: `finish.finish(folder, facts)` calls, in this order, `summary` (numbers), `judge` (is
the run valid, does it keep its promises), `record` (files) and `page` (the report). This room starts
nothing and talks to no server: it turns values into values and files.
"""
