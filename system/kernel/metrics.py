"""`METRICS`: every number that a process of the lab tells at /metrics. A further metric is one more row.

Names are `tweetlab_<what>_<unit>`; a counter ends in `_total`. docs/reference/telemetry.md and the dashboards are made from
this table (`make reference`). Labels must have few values: a route, a dependency, a result; never a user, an id or a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Board = Literal["requests", "workers", "stores", "processes"]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds of most histograms: from a Redis call to the longest a request may take."""
LONG_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds for what may wait in a queue."""


@dataclass(frozen=True)
class Metric:
    """One metric. `unit`: of its value. `buckets`: upper bounds of a histogram. `board`: the dashboard that shows it."""

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    unit: str = "1"
    buckets: tuple[float, ...] = SECONDS
    board: Board = "requests"


METRICS: dict[str, Metric] = {
    # -- requests: rate, errors and duration of each route and each dependency
    "tweetlab_request_seconds": Metric(
        "histogram", "Time inside this process for a request, by route and class of status.", ("route", "status"), "s"),
    "tweetlab_requests_in_flight": Metric("gauge", "Requests inside this process now.", (), "requests"),
    "tweetlab_dependency_seconds": Metric(
        "histogram", "Time of a call to a store or to a service behind the mesh; result is ok or error.",
        ("dependency", "result"), "s"),
    "tweetlab_pool_wait_seconds": Metric(
        "histogram", "Wait for a free connection or slot, before a call could be sent.", ("dependency",), "s"),
    "tweetlab_breaker_state": Metric("gauge", "0 closed, 1 half-open, 2 open.", ("dependency",), "state"),
    "tweetlab_breaker_opened_total": Metric("counter", "How often a breaker opened.", ("dependency",), "openings"),
    "tweetlab_retries_total": Metric("counter", "Calls that were sent again.", ("dependency",), "calls"),
    "tweetlab_shed_total": Metric("counter", "Requests refused because too many were inside.", ("route",), "requests"),
    "tweetlab_limit_decisions_total": Metric(
        "counter", "Decisions of the rate limits; result is admitted, refused or local (without the store).",
        ("route", "result"), "requests"),
    "tweetlab_cache_requests_total": Metric(
        "counter", "Look-ups in a cache; result is hit, miss or stale.", ("cache", "result"), "look-ups"),
    # -- workers
    "tweetlab_consumed_total": Metric(
        "counter", "Records taken from Kafka; result is done or dead (went to the dead letters).",
        ("group", "topic", "result"), "records", board="workers"),
    "tweetlab_batch_seconds": Metric(
        "histogram", "Time for the records of one poll, from the poll's answer to the commit.", ("group",), "s", LONG_SECONDS,
        board="workers"),
    "tweetlab_effects_total": Metric(
        "counter", "Events by what was done with them: push, pull, skip, back_fill, purge, remove, index.",
        ("group", "path"), "events", board="workers"),
    "tweetlab_effect_targets_total": Metric(
        "counter", "Timelines or documents that events changed.", ("group", "path"), "targets", board="workers"),
    # -- processes
    "tweetlab_loop_lag_seconds": Metric(
        "histogram", "How much later than asked the event loop ran a timer.", (), "s", board="processes"),
    "tweetlab_process_cpu_seconds_total": Metric("counter", "CPU time of the process.", (), "s", board="processes"),
    "tweetlab_process_resident_bytes": Metric("gauge", "Resident memory of the process.", (), "bytes", board="processes"),
    "tweetlab_process_started_seconds": Metric("gauge", "Wall time when the process began.", (), "s", board="processes"),
}
