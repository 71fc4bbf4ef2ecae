"""CPU per unit of work, by regression of measured CPU on counted work (the service-demand law).

In each window a process uses idle + sum over units of (count * base + size * per_item) * (w / reference)^-exponent,
w being the sum itself: work gets cheaper with load, because one wake-up serves several requests. The counts come
from the model's own programs, replayed on the operations of the measured run, so a rebuild of 40 lists counts
as 40 lists. What is fitted for each unit is a factor on its prior cost, by non-negative least squares with a pull
towards the one factor that fits the whole process best; the exponent is found by a search. A short run determines
the sum well and some units not at all: a unit whose factor the data hardly changes is marked as not identified and
keeps the common factor. Bounds come from resampling blocks of windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRIOR_SPREAD = 0.7  # of a factor, relative: values from other machines and versions were off by up to this much
IDENTIFIED = 0.5  # a unit is identified if the data reduce the spread of its factor at least by half
WINDOW_ERROR = 0.06  # of a process' CPU in one window, relative: the speed of the machine varies by about this much
LEAST_ERROR_CORES = 0.001
EXPONENTS = np.arange(0.0, 0.61, 0.02)
ROUNDS = 4  # of the costs for one exponent: w depends on them
COLLINEAR = 1e12  # condition numbers are capped here; beyond it two units always occurred together
RESAMPLES = 60
BLOCK_WINDOWS = 2  # windows drawn together: garbage collection and compaction last about this long
BEYOND = 1.3  # times the highest work rate that was measured: up to here the exponent is used
BELOW = 0.5   # times the lowest


@dataclass(frozen=True)
class Prior:
    """What is known before. `exponent`, `spread`: of the exponent and its standard deviation. `idle_cores`: measured
    without load. `factor_spread`: of each factor, relative, shape (units,) or one for all.
    """

    idle_cores: float
    exponent: float
    exponent_spread: float
    factor_spread: Floats | float = PRIOR_SPREAD


@dataclass(frozen=True)
class Fitted:
    """One process. `factors`: float64, shape (units,); `low`, `high`: their 5th and 95th percentile over resamples.

    `identified`: bool, shape (units,). `exponent`, `exponent_low`, `exponent_high`: of the work rate. `reference`,
    `lowest`, `highest`: work rates, nominal cores. `condition`: condition number of the design with columns of equal
    length. `residual`: median relative error of a window.
    """

    factors: Floats
    low: Floats
    high: Floats
    identified: NDArray[np.bool_]
    exponent: float
    exponent_low: float
    exponent_high: float
    reference: float
    lowest: float
    highest: float
    condition: float
    residual: float
    windows: int

    def cores(self, design: Floats, idle_cores: float) -> Floats:
        """Return the CPU of each window, shape (windows,), for `design` as in `fit`."""
        work = design @ self.factors
        return np.asarray(idle_cores + work * multiplier(work, self.reference, self.lowest, self.highest, self.exponent))


def multiplier(work: Floats, reference: float, lowest: float, highest: float, exponent: float) -> Floats:
    """Return the factor on the cost of work at the work rates `work`, nominal cores."""
    return np.asarray((np.clip(work, lowest, highest) / reference) ** -exponent)


def fit(design: Floats, measured: Floats, prior: Prior, seed: int = 0, resamples: int = RESAMPLES) -> Fitted:
    """Fit one process. `design`: cores that the prior expects, shape (windows, units); `measured`: cores, shape (windows,).

    `resamples`: for the bounds; 0 leaves them at the values.
    """
    above = np.maximum(measured - prior.idle_cores, 0.0)
    error = np.maximum(WINDOW_ERROR * measured, LEAST_ERROR_CORES)
    solved = _best(design, above, error, prior, EXPONENTS)
    factors, exponent, (reference, lowest, highest) = solved
    common = _common_factor(design, above, error)
    low, high, exponents = factors, factors, (exponent, exponent)
    if resamples:
        low, high, exponents = _bounds(design, above, error, prior, exponent, seed, resamples)
    steady = (high - low) / 2.0 < IDENTIFIED * np.maximum(factors, 1e-9)
    work = design @ factors
    expected = prior.idle_cores + work * multiplier(work, reference, lowest, highest, exponent)
    loaded = measured > 2.0 * prior.idle_cores
    residual = np.abs(expected - measured)[loaded] / measured[loaded] if loaded.any() else np.zeros(1)
    return Fitted(
        factors=factors, low=low, high=high, identified=_identified(design, error, common, prior) & steady,
        exponent=exponent, exponent_low=exponents[0], exponent_high=exponents[1], reference=reference, lowest=lowest,
        highest=highest, condition=_condition(design), residual=float(np.median(residual)), windows=len(measured),
    )  # fmt: skip


Range = tuple[float, float, float]


def _best(design: Floats, above: Floats, error: Floats, prior: Prior, exponents: Floats) -> tuple[Floats, float, Range]:
    """Return (factors, exponent, (reference, lowest, highest)) of the exponent that fits best."""
    best: tuple[float, Floats, float, Range] | None = None
    for exponent in exponents:
        factors, bounds, misfit = _solve(design, above, error, prior, float(exponent))
        cost = misfit + ((float(exponent) - prior.exponent) / prior.exponent_spread) ** 2
        if best is None or cost < best[0]:
            best = (cost, factors, float(exponent), bounds)
    assert best is not None
    return best[1], best[2], best[3]


def _solve(design: Floats, above: Floats, error: Floats, prior: Prior, exponent: float) -> tuple[Floats, Range, float]:
    """Return (factors, work range, misfit) for one exponent."""
    from scipy import optimize  # a third of a second, which only a fit needs

    units = design.shape[1]
    common = _common_factor(design, above, error)
    factors = np.full(units, common)
    bounds = (1.0, 1.0, 1.0)
    misfit = 0.0
    for _ in range(ROUNDS):
        work = design @ factors
        bounds = _range(work)
        scaled = design * multiplier(work, *bounds, exponent)[:, None]
        common = _common_factor(scaled, above, error)
        pull = np.broadcast_to(prior.factor_spread, (units,)) * common
        rows = np.vstack([scaled / error[:, None], np.eye(units) / pull])
        target = np.concatenate([above / error, common / pull])
        factors, misfit = optimize.nnls(rows, target)
    return np.asarray(factors), bounds, float(misfit**2)


def _range(work: Floats) -> Range:
    """Return (reference, lowest, highest) of the work rates at which the exponent holds."""
    loaded = work[work > 0.02 * work.max()] if work.max() > 0.0 else np.ones(1)
    reference = float(np.exp(np.mean(np.log(loaded))))
    return reference, BELOW * float(loaded.min()), BEYOND * float(loaded.max())


def _common_factor(design: Floats, above: Floats, error: Floats) -> float:
    """Return the single factor on all units that fits best; 1 without any work."""
    expected = design.sum(axis=1)
    weight = float(((expected / error) ** 2).sum())
    return max(float((expected * above / error**2).sum()) / weight, 1e-3) if weight > 0.0 else 1.0


def _identified(design: Floats, error: Floats, common: float, prior: Prior) -> NDArray[np.bool_]:
    units = design.shape[1]
    rows = design / error[:, None]
    spread = np.broadcast_to(prior.factor_spread, (units,)) * common
    covariance = np.linalg.inv(rows.T @ rows + np.diag(spread**-2.0))
    return np.asarray(np.sqrt(np.diag(covariance)) < IDENTIFIED * spread)


def _bounds(design: Floats, above: Floats, error: Floats, prior: Prior, exponent: float,
            seed: int, resamples: int) -> tuple[Floats, Floats, tuple[float, float]]:
    random = np.random.default_rng([seed, 11])
    windows = len(above)
    blocks = max(1, windows // BLOCK_WINDOWS)
    near = EXPONENTS[np.abs(EXPONENTS - exponent) < 0.15][::2]
    resampled, exponents = [], []
    for _ in range(resamples):
        starts = random.integers(0, max(1, windows - BLOCK_WINDOWS + 1), blocks)
        rows = (starts[:, None] + np.arange(min(BLOCK_WINDOWS, windows))[None, :]).ravel()
        factors, found, _ = _best(design[rows], above[rows], error[rows], prior, near)
        resampled.append(factors)
        exponents.append(found)
    table = np.asarray(resampled)
    low, high = np.percentile(exponents, 5), np.percentile(exponents, 95)
    return np.percentile(table, 5, axis=0), np.percentile(table, 95, axis=0), (float(low), float(high))


def _condition(design: Floats) -> float:
    occurred = design[:, design.sum(axis=0) > 0.0]
    if not occurred.shape[1]:
        return COLLINEAR
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
