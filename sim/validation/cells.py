"""Cells: one statistic of one route in one load, measured and predicted, with the noise of the measurement.

A cell counts where enough OK requests were measured for its statistic (`LEAST`). Its noise is the standard error of
the measured value: blocks of one second are resampled, because neighbouring requests wait for the same things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEAST = {"mean": 1_000, "p50": 1_000, "p95": 2_000, "p99": 10_000}
"""Statistic -> fewest OK requests, pooled over repeats, for which its cell counts."""

STATISTICS: dict[str, Callable[[Floats], float]] = {
    "mean": lambda values: float(values.mean()),
    "p50": lambda values: float(np.quantile(values, 0.50)),
    "p95": lambda values: float(np.quantile(values, 0.95)),
    "p99": lambda values: float(np.quantile(values, 0.99)),
}
BLOCK_S = 1.0
RESAMPLES = 200


@dataclass(frozen=True)
class Cell:
    """`measured`, `predicted`: ms. `noise`: standard error of `measured`, relative. `requests`: OK ones measured."""

    route: str
    statistic: str
    requests: int
    measured: float
    predicted: float
    noise: float

    @property
    def error(self) -> float:
        """Signed relative error of the prediction."""
        return self.predicted / self.measured - 1.0

    @property
    def counts(self) -> bool:
        """Whether enough requests were measured."""
        return self.requests >= LEAST[self.statistic]


def responses(table: pd.DataFrame, span: tuple[float, float]) -> dict[str, tuple[Floats, Floats]]:
    """Return route -> (due times s, responses ms), float64, shape (n,), of operations due within `span`, s.

    `table`: as `sim.delays.operations` returns it.
    """
    inside = table[(table["due"] >= span[0] * 1e3) & (table["due"] < span[1] * 1e3)]
    return {
        str(route): (rows["due"].to_numpy(np.float64) / 1e3, (rows["done"] - rows["due"]).to_numpy(np.float64))
        for route, rows in inside.groupby("route")
    }


def compare(
    measured: Sequence[Mapping[str, tuple[Floats, Floats]]],
    predicted: Sequence[Mapping[str, tuple[Floats, Floats]]],
    seed: int = 0,
) -> list[Cell]:
    """Return the cells of one load: medians over the repeats in `measured`, against those of `predicted`."""
    found = []
    for route in sorted(set.intersection(*(set(one) for one in measured), *(set(one) for one in predicted))):
        requests = sum(len(one[route][1]) for one in measured)
        for name, statistic in STATISTICS.items():
            values = [statistic(one[route][1]) for one in measured]
            value = float(np.median(values))
            guess = float(np.median([statistic(one[route][1]) for one in predicted]))
            found.append(
                Cell(
                    route,
                    name,
                    requests,
                    value,
                    guess,
                    _noise([one[route] for one in measured], statistic, seed) / value,
                )
            )
    return found


def noise_of(measured: Mapping[str, tuple[Floats, Floats]], seed: int = 0) -> dict[str, dict[str, float]]:
    """Return route -> statistic -> standard error within one run, ms."""
    random = np.random.default_rng([seed, 17])
    return {
        route: {name: float(np.std(_resampled(due, took, statistic, random))) for name, statistic in STATISTICS.items()}
        for route, (due, took) in measured.items()
        if len(took) > 1
    }


def _noise(repeats: Sequence[tuple[Floats, Floats]], statistic: Callable[[Floats], float], seed: int) -> float:
    """Return the standard error of the median over repeats, ms: from within each of them, and between them."""
    random = np.random.default_rng([seed, 17])
    within = [float(np.std(_resampled(due, took, statistic, random))) for due, took in repeats]
    values = [statistic(took) for _, took in repeats]
    between = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    spread = max(float(np.median(within)), between)
    return spread * (1.2533 if len(values) > 2 else 1.0) / float(np.sqrt(len(values)))


def _resampled(
    due: Floats, took: Floats, statistic: Callable[[Floats], float], random: np.random.Generator
) -> list[float]:
    blocks = np.floor(due / BLOCK_S).astype(np.int64)
    blocks -= blocks.min()
    parts = [took[blocks == number] for number in range(int(blocks.max()) + 1)]
    parts = [part for part in parts if len(part)]
    return [
        statistic(np.concatenate([parts[number] for number in random.integers(0, len(parts), len(parts))]))
        for _ in range(RESAMPLES)
    ]
