"""What every package may use: ids, events, errors, clock, policies, retry, breaker.

Imports no other package of the project.
"""
