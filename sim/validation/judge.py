"""The verdict of a validation: errors of its cells against the bars, in two bands of utilization.

A cell is one (load, route, statistic), or one process for CPU. A row of the verdict is a statistic in a band: the
median over loads of the median over routes, and the worst cell, which may be twice the bar. A cell with too few
requests is not counted, and one whose noise exceeds half its bar is UNKNOWN.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reports import accounts
from sim.validation import cells
from sim.validation.draw import EDGE

BANDS = {"low": f"to {EDGE:g}", "high": f"{EDGE:g} to 0.8"}
BARS: dict[str, tuple[float, float]] = {
    "CPU": (0.04, 0.04), "process": (0.12, 0.12), "mean": (0.10, 0.20), "p50": (0.12, 0.20), "p95": (0.15, 0.25),
    "p99": (0.25, 0.30),
}  # fmt: skip
"""Statistic -> (bar below EDGE, bar above)."""

WORST_FACTOR = 2.0
PROCESS_CORES = 0.05  # a process is judged above this
LEAST_LOADS, LEAST_MIXES = 3, 2


@dataclass(frozen=True)
class Judged:
    """One cell. `predicted`, `error`: at the speed of the machine; `as_calibrated`: the error of the prediction in the ledger.
    `structure`: the error with right demands, None for CPU. `noise`: standard error of `error`. `state`: counts, few or
    unknown.
    """

    load: str
    mix: str
    band: str
    route: str
    statistic: str
    measured: float
    predicted: float
    error: float
    as_calibrated: float
    structure: float | None
    noise: float
    requests: int
    state: str


@dataclass(frozen=True)
class Row:
    """One statistic in one band. `median`, `worst`: absolute errors, None without cells. `bias`: median signed error.
    `as_calibrated`: as `median`, of the predictions in the ledger. `loads`, `mixes`: that have a cell. `verdict`: holds,
    misses or unknown.
    """

    statistic: str
    band: str
    bar: float
    median: float | None
    worst: float | None
    worst_cell: str
    bias: float | None
    as_calibrated: float | None
    loads: int
    mixes: int
    verdict: str


def judged(
    predictions: Mapping[str, Mapping[str, Any]], runs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Judged]:
    """Return the cells of all loads. `predictions`: load name -> its ledger entry. `runs`: load name -> examined runs."""
    found: list[Judged] = []
    for name, entry in predictions.items():
        repeats = [run for run in runs.get(name, ()) if run["dropped"] <= accounts.MOST_DROPPED]
        if not repeats or entry["load"]["kind"] not in ("examination", "headline"):
            continue
        used = float(np.median([run["utilization"] for run in repeats]))
        band = "low" if used <= EDGE else "high"
        found += _cpu(name, entry, repeats, band)
        found += _responses(name, entry, repeats, band)
    return found


def _bar(statistic: str, band: str) -> float:
    return BARS[statistic][0 if band == "low" else 1]


def _said(entry: Mapping[str, Any], run: Mapping[str, Any], part: str, key: str, statistic: str = "") -> float:
    """Return what the model says of a run: at its speed if that was probed. `registered` in an entry is the prediction of
    the right model, where the entry has that of a wrong one, which was not played at the speed of each run.
    """

    def value(predicted: Mapping[str, Any]) -> float:
        found = predicted[part].get(key, {} if statistic else 0.0)
        return float(found.get(statistic, 0.0)) if statistic else float(found)

    plain, at_speed = value(entry["predicted"]), run.get("at_speed")
    if not at_speed or key not in at_speed[part]:
        return plain
    registered = value(entry.get("registered", entry["predicted"]))
    return value(at_speed) * (plain / registered if registered else 1.0)


def _cpu(name: str, entry: Mapping[str, Any], repeats: Sequence[Mapping[str, Any]], band: str) -> Iterable[Judged]:
    known = sorted(set.intersection(*(set(run["cores"]) for run in repeats)))
    cores = entry["predicted"]["cores"]
    totals = [
        (sum(run["cores"][node] for node in known), sum(_said(entry, run, "cores", node) for node in known)) for run in repeats
    ]
    registered = sum(cores.get(node, 0.0) for node in known)
    yield _cell(name, entry, band, "all", "CPU", totals, registered)
    for node in known:
        pairs = [(run["cores"][node], _said(entry, run, "cores", node)) for run in repeats]
        if float(np.median([measured for measured, _ in pairs])) > PROCESS_CORES:
            yield _cell(name, entry, band, node, "process", pairs, cores.get(node, 0.0))


def _responses(
    name: str, entry: Mapping[str, Any], repeats: Sequence[Mapping[str, Any]], band: str
) -> Iterable[Judged]:
    predicted = entry["predicted"]["routes"]
    for route in sorted(set.intersection(*(set(run["routes"]) for run in repeats)) & set(predicted)):
        requests = sum(run["requests"][route] for run in repeats)
        for statistic in cells.STATISTICS:
            pairs = [(run["routes"][route][statistic], _said(entry, run, "routes", route, statistic)) for run in repeats]
            within = [run["noise"].get(route, {}).get(statistic, 0.0) / run["routes"][route][statistic] for run in repeats]
            structure = [run["structure"][route][statistic] for run in repeats if route in run["structure"]]
            yield _cell(
                name, entry, band, route, statistic, pairs, predicted[route][statistic], float(np.median(within)), requests,
                float(np.median(structure)) if structure else None,
            )  # fmt: skip


def _cell(
    load: str, entry: Mapping[str, Any], band: str, route: str, statistic: str, pairs: Sequence[tuple[float, float]],
    registered: float, within: float = 0.0, requests: int = 0, structure: float | None = None,
) -> Judged:  # fmt: skip
    """`pairs`: (measured, predicted) of each repeat, above 0. `within`: relative standard error within one run."""
    measured = float(np.median([one for one, _ in pairs]))
    errors = [said / one - 1.0 for one, said in pairs]
    error = float(np.median(errors))
    between = float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0
    noise = max(within, between) * (1.2533 if len(errors) > 2 else 1.0) / float(np.sqrt(len(errors)))
    few = requests < cells.LEAST.get(statistic, 0)
    state = "few" if few else "unknown" if noise > _bar(statistic, band) / 2 else "counts"
    return Judged(load, entry["load"]["mix"], band, route, statistic, measured, measured * (1.0 + error), error,
                  registered / measured - 1.0, structure, noise, requests, state)


def rows(found: Sequence[Judged]) -> list[Row]:
    """Return the verdict of each statistic in each band."""
    return [_row(found, statistic, band) for band in BANDS for statistic in BARS]


def _row(found: Sequence[Judged], statistic: str, band: str) -> Row:
    bar = _bar(statistic, band)
    mine = [cell for cell in found if cell.statistic == statistic and cell.band == band and cell.state == "counts"]
    by_load: dict[str, list[Judged]] = {}
    for cell in mine:
        by_load.setdefault(cell.load, []).append(cell)
    mixes = len({cell.mix for cell in mine})
    if not mine:
        return Row(statistic, band, bar, None, None, "", None, None, 0, 0, "unknown")
    median, as_calibrated = (
        float(np.median([np.median([abs(getattr(cell, which)) for cell in one]) for one in by_load.values()]))
        for which in ("error", "as_calibrated")
    )
    worst = max(mine, key=lambda cell: abs(cell.error))
    holds = median <= bar and abs(worst.error) <= WORST_FACTOR * bar
    enough = len(by_load) >= LEAST_LOADS and mixes >= LEAST_MIXES
    return Row(
        statistic,
        band,
        bar,
        median,
        abs(worst.error),
        f"{worst.load} {worst.route}",
        float(np.median([c.error for c in mine])),
        as_calibrated,
        len(by_load),
        mixes,
        "misses" if not holds else "holds" if enough else "unknown",
    )


# ---- capacity and cache loss -----------------------------------------------------------------------------


def capacity(points: Sequence[tuple[float, float]], bound_ms: float) -> float | None:
    """Return the rate at which home p99 reaches `bound_ms`, by interpolation of log p99 over (rate, p99 ms); None if it
    does not within the points.
    """
    ordered = sorted(points)
    for (rate, p99), (following, higher) in itertools.pairwise(ordered):
        if p99 <= bound_ms < higher:
            share = np.log(bound_ms / p99) / np.log(higher / p99)
            return float(rate + share * (following - rate))
    return None


def capacity_rows(
    predictions: Mapping[str, Mapping[str, Any]], runs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Return measured and predicted capacity for home p99 of 50 and 100 ms."""
    real, model = [], []
    for name, entry in predictions.items():
        if entry["load"]["kind"] == "capacity" and runs.get(name):
            rate = float(entry["load"]["rate"])
            real.append((rate, float(np.median([run["routes"]["home"]["p99"] for run in runs[name]]))))
            model.append((rate, float(np.median([_said(entry, run, "routes", "home", "p99") for run in runs[name]]))))
    found = []
    for bound in (50.0, 100.0):
        measured, predicted = capacity(real, bound), capacity(model, bound)
        error = predicted / measured - 1.0 if measured and predicted else None
        found.append(
            {
                "bound_ms": bound,
                "measured": measured,
                "predicted": predicted,
                "error": error,
                "verdict": "unknown" if error is None else "holds" if abs(error) <= 0.08 else "misses",
            }
        )
    return found


CACHE_LOSS: dict[str, float] = {"mean": 0.30, "p95": 0.40, "recovery": 0.30, "rebuilds": 0.03}
"""What is judged after a cache loss: home mean and p95, recovery (relative errors), share of rebuilds by 5 s (points)."""
RECOVERY_S = 0.5  # a recovery that is off by no more than this holds


def cache_loss(
    predictions: Mapping[str, Mapping[str, Any]], runs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Return rows (statistic, measured, predicted, error, bar, verdict) of the cache loss; [] if it was not run.

    `predicted` is the median over repeats of what the model says at the speed of each, or of the ledger where none was probed.
    Of `rebuilds` the values are those of the 5 s in which they differ most, and the error is their difference.
    """
    found: list[dict[str, Any]] = []
    for name, entry in predictions.items():
        if entry["load"]["kind"] != "cache_loss" or not runs.get(name):
            continue
        repeats = runs[name]
        said = [run.get("at_speed") or entry["predicted"] for run in repeats]
        for statistic in ("mean", "p95"):
            real_ms, model_ms = (_median([one["after_loss"].get(statistic) for one in side]) for side in (repeats, said))
            if real_ms is not None and model_ms is not None:
                found.append(_after(statistic, real_ms, model_ms))
        measured, predicted = (_median([one["recovery_s"] for one in side]) for side in (repeats, said))
        if measured is not None and predicted is not None:
            found.append(_after("recovery", measured, predicted, RECOVERY_S))
        else:  # one that neither side reaches within the load says nothing
            neither = measured is None and predicted is None
            found.append({"statistic": "recovery", "measured": measured, "predicted": predicted, "error": None,
                          "bar": CACHE_LOSS["recovery"], "verdict": "unknown" if neither else "misses"})
        real, model = (np.nanmedian(np.asarray([one["rebuilds"] for one in side], dtype=np.float64), axis=0)
                       for side in (repeats, said))
        if len(model) == len(real) > 0:
            worst = int(np.nanargmax(np.abs(real - model)))
            row = _after("rebuilds", float(real[worst]), float(model[worst]))
            gap = float(model[worst] - real[worst])
            found.append({**row, "error": gap, "verdict": "holds" if abs(gap) <= CACHE_LOSS["rebuilds"] else "misses"})
    return found


def _median(values: Sequence[float | None]) -> float | None:
    """Return the median; None if half of the values or more are missing."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if 2 * len(known) > len(values) else None


def _after(statistic: str, measured: float, predicted: float, absolute: float = 0.0) -> dict[str, Any]:
    bar = CACHE_LOSS[statistic]
    error = predicted / measured - 1.0 if measured else None
    holds = abs(predicted - measured) <= absolute or (error is not None and abs(error) <= bar)
    return {"statistic": statistic, "measured": measured, "predicted": predicted, "error": error, "bar": bar,
            "verdict": "holds" if holds else "misses"}


def as_json(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Return cells or rows as JSON."""
    return [asdict(one) for one in found]
