"""The statistics of `compare`: the effect between two sides of repeated runs, with its interval.

The unit of analysis is the run. Each run gives one number per measure; a side has at least five. On the log scale
the effect is a ratio, and Welch's t over run-level numbers is valid whatever the dependence of requests within a
run. Requests are autocorrelated, so a run's own uncertainty comes from a block bootstrap (whole blocks of time
are drawn, never single requests). It is the floor of the standard error: five runs that agree by chance cannot
make the interval narrower than the error of each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

BLOCKS = 30  # of a run; 2 s each in a run of 60 s, longer than the correlation time of a queue at 90 % load
DRAWS = 200  # bootstrap draws; their standard deviation is then known to 5 %
BINS = 400  # log-spaced between the smallest and the largest value: at most 2 % wide over 3 decades
LEVEL = 0.95  # of the intervals shown
ALPHA = 0.05  # family-wise, for the result `changed` over all its tests


@dataclass(frozen=True)
class Measured:
    """One measure of one run on the log scale: its value and the standard error within the run.

    `beyond`: the value is only a lower bound, since the percentile falls among unanswered operations.
    """

    value: float
    within_se: float
    beyond: bool = False


@dataclass(frozen=True)
class Effect:
    """B against A as ratio - 1 (0.10 = B is 10 % higher), its 95 % interval, and the p-value of 'no effect'."""

    change: float
    low: float
    high: float
    p: float


def bootstrap_quantiles(values: Floats, at_s: Floats, quantiles: Sequence[float], seed: int = 0) -> Floats:
    """Return block bootstrap draws of log quantiles: shape (DRAWS, len(quantiles)).

    `values` > 0, shape (n,), at times `at_s`. The run is split into BLOCKS blocks of equal time; a draw takes as
    many with replacement. Blocks are stored as histograms, so a draw costs one sum of rows.
    """
    logs = np.log(values)
    edges = np.linspace(logs.min(), logs.max() + 1e-12, BINS + 1)
    span = float(at_s.max() - at_s.min()) or 1.0
    block = np.minimum(((at_s - at_s.min()) / span * BLOCKS).astype(np.int64), BLOCKS - 1)
    column = np.minimum(((logs - edges[0]) / (edges[1] - edges[0])).astype(np.int64), BINS - 1)
    counts = np.bincount(block * BINS + column, minlength=BLOCKS * BINS).reshape(BLOCKS, BINS)
    weights = np.random.default_rng(seed).multinomial(BLOCKS, np.full(BLOCKS, 1 / BLOCKS), size=DRAWS)
    below = np.cumsum(weights @ counts, axis=1)
    ranks = below[:, -1:] * np.asarray(quantiles)[None, :]
    bins = np.array([np.searchsorted(row, row_ranks) for row, row_ranks in zip(below, ranks, strict=True)])
    middles: Floats = (edges[:-1] + edges[1:]) / 2
    draws: Floats = middles[np.minimum(bins, BINS - 1)]
    return draws


def effect(a: Sequence[Measured], b: Sequence[Measured]) -> Effect:
    """Return Welch's t between two sides, at least two runs each, with the within-run error as the floor."""
    values = [np.array([one.value for one in side]) for side in (a, b)]
    parts = [_squared_error(side, numbers) for side, numbers in zip((a, b), values, strict=True)]
    se = math.sqrt(sum(parts))
    difference = float(values[1].mean() - values[0].mean())
    if se == 0:
        return Effect(math.expm1(difference), math.expm1(difference), math.expm1(difference), float(difference == 0))
    freedom = sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
    from scipy import stats  # half a second, which only a comparison needs

    reach = float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * se
    p = float(2 * stats.t.sf(abs(difference) / se, freedom))
    return Effect(math.expm1(difference), math.expm1(difference - reach), math.expm1(difference + reach), p)


def _squared_error(side: Sequence[Measured], values: Floats) -> float:
    between = float(values.var(ddof=1)) / len(values)
    within = float(np.mean([one.within_se**2 for one in side])) / len(side)
    return max(between, within)


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> list[bool]:
    """Return which tests reject, with a family-wise error rate of at most `alpha` (Holm's step-down procedure)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = [False] * len(p_values)
    for step, i in enumerate(order):
        if p_values[i] > alpha / (len(p_values) - step):
            break
        rejected[i] = True
    return rejected
