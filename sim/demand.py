"""CPU per unit of work, by regression of measured CPU on counted work (the service-demand law).

In each window a process uses background + sum over units of (count * base + size * per_item). The counts come
from the model's own programs, replayed on the operations of the measured run, so a rebuild of 40 lists counts
as 40 lists. The fit determines for each unit a factor on its prior cost, by non-negative least squares with a
pull towards the one factor that fits the whole process best. A short run determines the sum well and some
units not at all: a unit whose factor the data hardly changes is marked as not identified and keeps the common
factor. Bounds come from resampling blocks of windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

Floats = NDArray[np.float64]

PRIOR_SPREAD = 0.7  # of a factor, relative: values from other machines and versions were off by up to this much
IDENTIFIED = 0.5  # a unit is identified if the data reduce the spread of its factor at least by half
BACKGROUND_SPREAD = 0.2  # of a process' mean CPU: what it may use without load beyond the prior; a JVM does
LOOP_SPREAD = 0.05  # the same for an event loop or Redis, which sleep without requests
COLLINEAR = 1e12  # condition numbers are capped here; beyond it two units always occurred together
RESAMPLES = 100
BLOCK_WINDOWS = 2  # windows drawn together: garbage collection and compaction last about this long


@dataclass(frozen=True)
class Fitted:
    """One process. `factors`: float64, shape (units,); `low`, `high`: their 5th and 95th percentile over resamples.

    `identified`: bool, shape (units,). `background_cores`: CPU without any load. `condition`: condition number of the
    design with columns of equal length. `residual_cores`: standard deviation of the residual, per window.
    """

    factors: Floats
    low: Floats
    high: Floats
    identified: NDArray[np.bool_]
    background_cores: float
    condition: float
    residual_cores: float
    windows: int


def fit(
    design: Floats, measured: Floats, background_cores: float, spread: float = BACKGROUND_SPREAD, seed: int = 0
) -> Fitted:
    """Fit one process. `design`: cores that the prior expects, shape (windows, units); `measured`: cores, shape (windows,).

    `background_cores`, `spread`: the prior's background, and its uncertainty as a fraction of the mean CPU.
    """
    windows, units = design.shape
    idle_spread = max(spread * float(measured.mean()), 5e-4)
    common = _common_factor(design, measured, background_cores, idle_spread)
    sigma = max(float(np.std(measured - common * design.sum(axis=1))), 1e-4)
    solution = np.zeros(units + 1)
    for _ in range(3):
        solution = _solve(design, measured, common, (background_cores, idle_spread), sigma)
        residual = measured - design @ solution[:-1] - solution[-1]
        free = max(windows - _freedom(design, common, idle_spread, sigma), 2.0)
        sigma = max(float(np.sqrt(np.sum(residual**2) / free)), 1e-4)
    low, high = _bounds(design, measured, common, (background_cores, idle_spread), sigma, seed)
    steady = (high - low) / 2.0 < IDENTIFIED * np.maximum(solution[:-1], 1e-9)
    return Fitted(
        factors=solution[:-1],
        low=low,
        high=high,
        identified=_identified(design, common, idle_spread, sigma) & steady,
        background_cores=float(solution[-1]),
        condition=_condition(design),
        residual_cores=sigma,
        windows=windows,
    )


def _common_factor(design: Floats, measured: Floats, background_cores: float, idle_spread: float) -> float:
    """Return the single factor on all units that fits best; 1 without any work."""
    expected = design.sum(axis=1)
    if float(expected.sum()) <= 0.0:
        return 1.0
    mean = float(measured.mean())
    solution = np.array([max(mean - background_cores, 0.1 * mean) / float(expected.mean()), background_cores])
    for _ in range(3):
        sigma = max(float(np.std(measured - solution[0] * expected - solution[1])), 1e-4)
        rows = np.vstack([np.column_stack([expected, np.ones(len(expected))]) / sigma, [[0.0, 1.0 / idle_spread]]])
        solution, _ = optimize.nnls(rows, np.append(measured / sigma, background_cores / idle_spread))
    return max(float(solution[0]), 1e-3)


def _solve(design: Floats, measured: Floats, common: float, idle: tuple[float, float], sigma: float) -> Floats:
    """Non-negative least squares with the pulls as further rows; the last entry is the background (`idle`: centre, spread)."""
    units = design.shape[1]
    rows = np.column_stack([design, np.ones(len(design))]) / sigma
    spreads = np.append(np.full(units, PRIOR_SPREAD * common), idle[1])
    centre = np.append(np.full(units, common), idle[0])
    solution, _ = optimize.nnls(np.vstack([rows, np.diag(1.0 / spreads)]), np.append(measured / sigma, centre / spreads))
    return np.asarray(solution, dtype=np.float64)


def _covariance(design: Floats, common: float, idle_spread: float, sigma: float) -> tuple[Floats, Floats]:
    """Return (information of the data, covariance with the pulls), both shape (units + 1, units + 1)."""
    units = design.shape[1]
    rows = np.column_stack([design, np.ones(len(design))]) / sigma
    prior = np.append(np.full(units, (PRIOR_SPREAD * common) ** -2.0), idle_spread**-2.0)
    information = rows.T @ rows
    return information, np.asarray(np.linalg.inv(information + np.diag(prior)), dtype=np.float64)


def _freedom(design: Floats, common: float, idle_spread: float, sigma: float) -> float:
    """Return the effective number of parameters: between 0 and units + 1."""
    information, covariance = _covariance(design, common, idle_spread, sigma)
    return float(np.trace(information @ covariance))


def _identified(design: Floats, common: float, idle_spread: float, sigma: float) -> NDArray[np.bool_]:
    _, covariance = _covariance(design, common, idle_spread, sigma)
    return np.asarray(np.sqrt(np.diag(covariance))[:-1] < IDENTIFIED * PRIOR_SPREAD * common)


def _bounds(
    design: Floats, measured: Floats, common: float, idle: tuple[float, float], sigma: float, seed: int
) -> tuple[Floats, Floats]:
    random = np.random.default_rng([seed, 11])
    windows = len(measured)
    blocks = max(1, windows // BLOCK_WINDOWS)
    resampled = []
    for _ in range(RESAMPLES):
        starts = random.integers(0, max(1, windows - BLOCK_WINDOWS + 1), blocks)
        rows = (starts[:, None] + np.arange(min(BLOCK_WINDOWS, windows))[None, :]).ravel()
        resampled.append(_solve(design[rows], measured[rows], common, idle, sigma)[:-1])
    table = np.asarray(resampled)
    return np.percentile(table, 5, axis=0), np.percentile(table, 95, axis=0)


def _condition(design: Floats) -> float:
    occurred = design[:, design.sum(axis=0) > 0.0]
    columns = np.column_stack([occurred, np.ones(len(occurred))])
    return min(float(np.linalg.cond(columns / np.linalg.norm(columns, axis=0))), COLLINEAR)


def work_in(windows: Sequence[tuple[float, float]], by_second: Sequence[float]) -> Floats:
    """Return work per second in each window (start, end; seconds), from counts by whole second, spread evenly in each."""
    total = np.concatenate([[0.0], np.cumsum(by_second)])
    grid = np.arange(len(total), dtype=np.float64)
    starts = np.asarray([start for start, _ in windows])
    ends = np.asarray([end for _, end in windows])
    inside = np.interp(ends, grid, total) - np.interp(starts, grid, total)
    return np.asarray(inside / np.maximum(ends - starts, 1e-9), dtype=np.float64)
