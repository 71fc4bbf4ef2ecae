"""The command, the runner and the load driver: the only room that starts anything."""
