"""Whether a calibration may be used: it must reproduce the run that it was made from.

That proves nothing about other loads, but a calibration that fails here is wrong for certain. Each stage of the run
is a rung; CPU, median and p95 over all routes must be within the bars, or within twice the rung's own noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim import delays
from sim.calibrate import IDLE_BELOW, Replayed
from sim.calibration import Calibration
from sim.replication import Played, Replication
from sim.validation import cells

BARS = {"cpu": 0.03, "p50": 0.10, "p95": 0.15}
NOISE_FACTOR = 2.0
LEAST = {"p50": 150, "p95": 400}  # operations of a rung below which the statistic is not judged
LEAST_OF_ROUTE = 40  # requests of a route in a rung for its statistics to be kept
SETTLES_S = 1.0  # of a rung: its queues come from the rung before


@dataclass(frozen=True)
class Rung:
    """One stage replayed. `rate`: 1/s. `utilization`: measured, 0 to 1. `error`, `noise`: by statistic, relative.

    `cores`: node -> (measured, predicted), of processes above 5 % of a core. `routes`: route -> statistic -> measured, ms.
    """

    stage: int
    rate: float
    utilization: float
    error: Mapping[str, float]
    noise: Mapping[str, float]
    cores: Mapping[str, tuple[float, float]]
    routes: Mapping[str, Mapping[str, float]]

    @property
    def broken(self) -> list[str]:
        """The statistics beyond their bar and beyond the noise."""
        return [
            name for name, error in self.error.items() if abs(error) > max(BARS[name], NOISE_FACTOR * self.noise[name])
        ]


def replayed(run: Replayed, calibration: Calibration, seeds: int = 2) -> list[Rung]:
    """Return the rungs of the run that `calibration` was made from, idle stages and the warm-up left out."""
    scenario = run.scenario
    played = [
        Replication(scenario, calibration, run.seeded, scenario.seed + seed).play(run.tape) for seed in range(seeds)
    ]
    measured, predicted = delays.operations(run.run), [delays.table_of(one) for one in played]
    rungs = []
    for number, (start, end) in enumerate(run.stages):
        stage = scenario.workload.stages[number]
        rate = max(stage.rate_from, stage.rate_to)
        windows = (run.accounts.stage == number) & run.accounts.closed
        if rate < IDLE_BELOW or start < scenario.measure.warm_up_s - SETTLES_S or not windows.any():
            continue
        cores = _cores(run, calibration, played, windows, (start, end))
        error, noise = {"cpu": _total(cores, 1) / _total(cores, 0) - 1.0}, {"cpu": _spread(run, windows)}
        found = cells.compare(
            [_pooled(measured, (start + SETTLES_S, end))], [_pooled(one, (start + SETTLES_S, end)) for one in predicted]
        )
        for cell in found:
            if cell.statistic in LEAST and cell.requests >= LEAST[cell.statistic]:
                error[cell.statistic], noise[cell.statistic] = cell.error, cell.noise
        rungs.append(
            Rung(
                number,
                rate,
                float(run.utilization[number]),
                error,
                noise,
                {node: pair for node, pair in cores.items() if pair[0] > 0.05},
                _routes(measured, (start + SETTLES_S, end)),
            )
        )
    return rungs


def _routes(table: pd.DataFrame, span: tuple[float, float]) -> dict[str, dict[str, float]]:
    return {
        route: {name: round(statistic(took), 3) for name, statistic in cells.STATISTICS.items()}
        for route, (_, took) in cells.responses(table, span).items()
        if len(took) >= LEAST_OF_ROUTE
    }


def judge(rungs: list[Rung]) -> list[str]:
    """Return what a calibration fails, a sentence each; empty if it may be used."""
    return [
        f"stage {rung.stage} ({rung.rate:g}/s, {rung.utilization:.0%} of the machine): {name} is off by "
        f"{rung.error[name]:+.0%}; {max(BARS[name], NOISE_FACTOR * rung.noise[name]):.0%} is allowed"
        for rung in rungs
        for name in rung.broken
    ]


def table(rungs: list[Rung]) -> list[dict[str, Any]]:
    """Return the rungs as JSON."""
    return [asdict(rung) for rung in rungs]


def _pooled(
    table: pd.DataFrame, span: tuple[float, float]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    by_route = cells.responses(table, span)
    return {
        "all": (
            np.concatenate([due for due, _ in by_route.values()]),
            np.concatenate([took for _, took in by_route.values()]),
        )
    }


def _cores(
    run: Replayed, calibration: Calibration, played: list[Played], windows: NDArray[np.bool_], span: tuple[float, float]
) -> dict[str, tuple[float, float]]:
    """Return node -> (measured, predicted) mean cores in a stage."""
    found = {}
    for node, cores in run.accounts.cores.items():
        used = [_used(one, node, span) for one in played]
        found[node] = (float(cores[windows].mean()), float(np.mean(used)) + calibration.background_cores.get(node, 0.0))
    return found


def _used(played: Played, node: str, span: tuple[float, float]) -> float:
    known = played.nodes.get(node)
    seconds = np.zeros(int(span[1]) + 1)
    if known is not None:
        cpu = np.asarray(known.cpu_s[: len(seconds)])
        seconds[: len(cpu)] = cpu
    return float(seconds[int(span[0]) : int(span[1])].mean())


def _total(cores: Mapping[str, tuple[float, float]], which: int) -> float:
    return sum(pair[which] for pair in cores.values())


def _spread(run: Replayed, windows: NDArray[np.bool_]) -> float:
    """Return the standard error of the mean CPU of a stage, relative."""
    total = np.sum([cores[windows] for cores in run.accounts.cores.values()], axis=0)
    if len(total) < 2:
        return 0.1
    return float(np.std(total, ddof=1) / np.sqrt(len(total)) / total.mean())
