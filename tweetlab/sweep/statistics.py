"""From the replications of a point to figures with intervals.

A figure of a point is the mean over its replications with a 95 % t-interval. Points are compared pair by pair: replication
r has the same unit arrivals, routes and users at every point, so their difference varies less than either figure.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tweetlab.sweep import asked

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """`mean` with a 95 % interval of `low` to `high` over `n` replications; equal to the mean for one."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2.0

    def as_json(self) -> list[float]:
        """Return mean, low and high, rounded."""
        return [round(self.mean, 5), round(self.low, 5), round(self.high, 5)]


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of `values` (at least one) with its interval."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean, mean, mean, len(values))
    half = t_quantile(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


@functools.cache
def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1.0 + confidence) / 2.0))


def is_reached(values: Sequence[float], within: float, least: int) -> bool:
    """Return whether the interval is at most `within` (a share) of the mean on either side; an unvarying figure is."""
    if len(values) < least:
        return False
    found = estimate(values)
    return found.half <= within * abs(found.mean) or found.half == 0.0


def wanted(values: Sequence[float], within: float, least: int, most: int) -> int:
    """Return how many replications the figure needs in all, `least` to `most`, from those so far.

    At most twice as many as so far: an early estimate of the spread is rough.
    """
    n = len(values)
    if n < least:
        return least
    if is_reached(values, within, least) or n >= most:
        return n
    found = estimate(values)
    if not found.mean:
        return min(most, 2 * n)
    needed = math.ceil(n * (found.half / (within * abs(found.mean))) ** 2)
    return min(most, max(n + 1, min(needed, 2 * n)))


def figures(rows: Iterable[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Return every figure that at least one of the rows has a value for."""
    listed = list(rows)
    routes = sorted({route for row in listed for route in row["routes"]})
    processes = sorted({node for row in listed for node in row["cores"]})
    names = [*(f"{route} {name}" for route in routes for name in asked.STATISTICS), *asked.PLAIN,
             *(f"cores {node}" for node in processes)]
    values = {name: values_of(listed, name) for name in names}
    return {name: estimate(found) for name, found in values.items() if found}


def values_of(rows: Iterable[Mapping[str, Any]], figure: str) -> list[float]:
    """Return the figure of each replication that has one, in order."""
    return [found for row in rows if (found := asked.value(row, figure)) is not None]


def difference(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], figure: str) -> Estimate | None:
    """Return `second` minus `first`, paired by replication; None if no replication has both."""
    by_number = {row["replication"]: asked.value(row, figure) for row in first}
    pairs = [(by_number.get(row["replication"]), asked.value(row, figure)) for row in second]
    gaps = [b - a for a, b in pairs if a is not None and b is not None]
    return estimate(gaps) if gaps else None
