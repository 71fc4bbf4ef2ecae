"""Parses the text format of /metrics, and turns two readings into rates and percentiles."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Labels = Mapping[str, str]

WANTED = ("tweetlab_request_seconds_", "tweetlab_dependency_seconds_", "tweetlab_consumed_total", "tweetlab_breaker_state",
          "tweetlab_cache_requests_total", "tweetlab_limit_decisions_total", "tweetlab_shed_total", "tweetlab_requests_in_flight",
          "tweetlab_nginx_requests_total")
PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Reading:
    """The wanted values of one process. `at_s`: monotonic time."""

    at_s: float
    values: Mapping[str, float]


@dataclass
class Growth:
    """The increase of each series between two readings, by name. `took_s`: seconds between them."""

    took_s: float
    by: dict[str, list[tuple[Labels, float]]] = field(default_factory=dict)

    def of(self, name: str) -> Iterable[tuple[Labels, float]]:
        """Return (labels, increase) of every series called `name` that increased, and of every bucket."""
        return self.by.get(name, ())


def read(text: str, at_s: float) -> Reading:
    """Return the wanted values of a /metrics reply."""
    values = {}
    for line in text.splitlines():
        if line.startswith(WANTED):
            series, _, value = line.rpartition(" ")
            values[series] = float(value)
    return Reading(at_s, values)


def growth(before: Reading | None, after: Reading) -> Growth:
    """Return the increases since `before`.

    A counter that fell was reset by a restart, so its full value counts.
    """
    if before is None:
        return Growth(0.0)
    grown: dict[str, list[tuple[Labels, float]]] = {}
    for series, value in after.values.items():
        old = before.values.get(series, 0.0)
        if value != old or "_bucket{" in series:  # an empty bucket bounds the next one from below
            name, labels = split(series)
            grown.setdefault(name, []).append((labels, value - old if value >= old else value))
    return Growth(after.at_s - before.at_s, grown)


@functools.lru_cache(maxsize=20_000)
def split(series: str) -> tuple[str, Labels]:
    """Return (name, labels) of a series in text format."""
    name, _, rest = series.partition("{")
    return name, dict(PAIR.findall(rest))


def percentile(buckets: Mapping[float, float], share: float) -> float | None:
    """Return the percentile of a histogram, in the unit of its bounds, interpolated linearly; None if it is empty.

    `buckets`: upper bound -> cumulative count, including `inf`. Above the last finite bound the result is
    that bound.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted, low, below = share * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if bound == float("inf"):
                return low
            inside = buckets[bound] - below
            return low + (bound - low) * ((wanted - below) / inside if inside else 1.0)
        low, below = bound, buckets[bound]
    return low
