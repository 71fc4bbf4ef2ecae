"""Percentiles and HdrHistograms of latencies.

These percentiles cover the given values only; the percentiles that decide an objective also cover unanswered
operations (`over_due`). A percentile is nearest-rank: of n values in ascending order, p is the value at rank
ceil(p/100 * n). It is always a measured value, never an interpolation, and windows are never averaged: the
percentile of a window is computed from that window's values, and that of repeats is the median of their
percentiles. Exact percentiles come from the arrays. HdrHistogram (1 µs..120 s, 3 digits: error at most 0.1 %) is
the exchange format, written as a V2 log that HdrHistogram's own tools and plotters read.
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
    """Return the nearest rank ceil(quantile * n), 1..n, in exact arithmetic: 0.99 * 100 is 99, not more."""
    return min(n, max(1, math.ceil(_exact(quantile) * n)))


_exact = functools.cache(bounds.exact)


def percentile(values: Floats, quantile: float) -> float:
    """Return the nearest-rank percentile of `values`, shape (n,), in any order; NaN if it is empty."""
    n = len(values)
    if n == 0:
        return math.nan
    at = rank(n, quantile) - 1
    return float(np.partition(values, at)[at])


def describe(values: Floats) -> dict[str, float | None]:
    """Return p50..p99.99, max and mean of `values`, shape (n,), in their unit; None for each if it is empty."""
    if len(values) == 0:
        return dict.fromkeys(KEYS)
    ordered = np.sort(values)
    percentiles: dict[str, float | None] = {
        name: float(ordered[rank(len(ordered), quantile) - 1]) for name, quantile in QUANTILES.items()
    }
    return {**percentiles, "max": float(ordered[-1]), "mean": float(ordered.mean())}


def needed(metric: str) -> int:
    """Return how many values a percentile needs: 1/(1-q), and at least 10 (also for max and mean)."""
    return max(10, round(1 / (1 - QUANTILES.get(metric, 0.5))))


def enough(n: int, metric: str) -> bool:
    """Return whether `n` values are enough for this percentile."""
    return n >= needed(metric)


def of_repeats(repeats: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the median of each percentile over the repeats; None if no repeat has it."""
    keys = list(dict.fromkeys(key for one in repeats for key in one))
    return {key: _median(one.get(key) for one in repeats) for key in keys}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def hdr(latencies_us: Floats) -> HdrHistogram:
    """Return an HdrHistogram of `latencies_us`, shape (n,); values outside 1 µs..120 s are clipped."""
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    rounded = np.clip(np.rint(latencies_us), LOWEST_US, HIGHEST_US).astype(np.int64)
    values, counts = np.unique(rounded, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    return histogram


@dataclass(frozen=True)
class Interval:
    """The latencies of one interval of a run: start (from the run's start) and length in s, values in µs."""

    start_s: float
    length_s: float
    latencies_us: Floats


def log_text(intervals: Iterable[Interval], start_wall_ms: int, tag: str) -> str:
    """Return an HdrHistogram V2 log, one line per interval, `tag` on each line, values in µs.

    Formatted here because the log writer of hdrhistogram 0.10.8 does not support tags, and its start line raises
    for any date (it takes milliseconds for seconds). Its encoder and reader are used.
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
    """Return the sum of all intervals of a V2 log."""
    total = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    reader = HistogramLogReader(str(path), total)
    while reader.add_next_interval_histogram():
        pass
    return total
