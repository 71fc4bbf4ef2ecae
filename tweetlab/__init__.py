"""The command line, the runner, the load driver and the console: the only layer that starts processes."""
