"""Processes of the lab: the supervisor, its children, their control groups, and the cleanup of orphans."""
