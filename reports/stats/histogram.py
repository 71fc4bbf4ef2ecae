"""Percentiles and HdrHistograms of latencies.

The percentiles here are of the values given; those that an objective is judged by also cover operations
without an answer (`over_due`). A percentile is nearest-rank: of n values in ascending order, p is the value
at rank ceil(p/100 * n). It is always a value that was measured, never an interpolation, and windows are never
averaged: a percentile of a window is taken from that window's values, and repeats give the median of their
percentiles. Exact percentiles come from the arrays; HdrHistogram (1 µs..120 s, 3 digits: at most 0.1 % off)
is the exchange format, written as a V2 log that HdrHistogram's own tools and plotters read.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from scenarios import bounds

LOWEST_US = 1
HIGHEST_US = 120_000_000
DIGITS = 3

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}
KEYS = (*QUANTILES, "max", "mean")

Floats = npt.NDArray[np.float64]


def rank(n: int, quantile: float) -> int:
    """The nearest rank ceil(quantile * n), 1..n, in whole numbers: 0.99 * 100 is 99, not
    99.00000000000001.
    """
    return min(n, max(1, math.ceil(_exact(quantile) * n)))


_exact = functools.cache(bounds.exact)


def percentile(values: Floats, quantile: float) -> float:
    """Nearest-rank percentile of `values`, shape (n,), in any order; NaN of none."""
    n = len(values)
    if n == 0:
        return math.nan
    at = rank(n, quantile) - 1
    return float(np.partition(values, at)[at])


def describe(values: Floats) -> dict[str, float | None]:
    """p50..p99.99, max and mean of `values`, shape (n,), in their unit; None for each where there are none."""
    if len(values) == 0:
        return dict.fromkeys(KEYS)
    ordered = np.sort(values)
    found: dict[str, float | None] = {
        name: float(ordered[rank(len(ordered), quantile) - 1]) for name, quantile in QUANTILES.items()
    }
    return {**found, "max": float(ordered[-1]), "mean": float(ordered.mean())}


def needed(metric: str) -> int:
    """How many values a percentile needs: one of them must lie beyond it, and 10 in all (also for max and mean)."""
    return max(10, round(1 / (1 - QUANTILES.get(metric, 0.5))))


def enough(n: int, metric: str) -> bool:
    """Whether `n` values can bear this percentile."""
    return n >= needed(metric)


def of_repeats(repeats: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The median of each percentile over the repeats; None where no repeat has it."""
    keys = list(dict.fromkeys(key for one in repeats for key in one))
    return {key: _median(one.get(key) for one in repeats) for key in keys}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def hdr(latencies_us: Floats) -> HdrHistogram:
    """An HdrHistogram of `latencies_us`, shape (n,); values outside 1 µs..120 s are clipped into it."""
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    rounded = np.clip(np.rint(latencies_us), LOWEST_US, HIGHEST_US).astype(np.int64)
    values, counts = np.unique(rounded, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    return histogram


@dataclass(frozen=True)
class Interval:
    """The latencies of one stretch of a run: start and length in s from the run's start, values in µs."""

    start_s: float
    length_s: float
    latencies_us: Floats


def log_text(intervals: Iterable[Interval], start_wall_ms: int, tag: str) -> str:
    """An HdrHistogram V2 log, one line an interval, `tag` on each line, values in µs.

    Written by hand: hdrhistogram 0.10.8 encodes and reads logs, but its writer knows no tags and its start
    line raises for any date (milliseconds are taken for seconds).
    """
    head = (
        "#[Histogram log format version 1.3]\n"
        f"#[StartTime: {start_wall_ms / 1000:.3f} (seconds since epoch)]\n"
        f"#[BaseTime: {start_wall_ms / 1000:.3f} (seconds since epoch)]\n"
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"\n'
    )
    return head + "".join(_log_line(one, tag) for one in intervals if len(one.latencies_us))


def _log_line(one: Interval, tag: str) -> str:
    histogram = hdr(one.latencies_us)
    payload = histogram.encode().decode("ascii")
    return f"Tag={tag},{one.start_s:.3f},{one.length_s:.3f},{histogram.get_max_value():.3f},{payload}\n"


def read_log(path: Path) -> HdrHistogram:
    """All intervals of a V2 log, added up."""
    total = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    reader = HistogramLogReader(str(path), total)
    while reader.add_next_interval_histogram():
        pass
    return total
