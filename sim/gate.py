"""Whether a calibration may be used: it must reproduce the run that it was made from.

That proves nothing about other loads, but a calibration that fails here is wrong for certain. The stages of its
ladders are the rungs; their CPU, p50 and p95 must be within the bars, or within twice the rung's own noise. The
machine is as slow in the replay as it was in each window: its speed is not what a calibration predicts.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim import delays
from sim.calibrate import IDLE_BELOW, Replayed, slowness_of
from sim.calibration import Calibration
from sim.replication import Played, Replication
from sim.validation import cells

BARS = {"cpu": 0.03, "p50": 0.10, "p95": 0.15}
NOISE_FACTOR = 2.0  # a rung's own noise times this is allowed, where that is more than the bar
WORST_FACTOR = 2.0  # a single rung may be off by this much more
LEAST_NOISE_CORES = 0.005  # of a rung's CPU: the sum of the idle CPU of 25 processes, measured for 15 s, is no more exact
LEAST = {"p50": 100, "p95": 200}  # requests of a route in a rung below which its statistic is not judged
LADDER = 3  # rates at which a mix must occur for its stages to be rungs
LEAST_OF_ROUTE = 40  # requests of a route in a rung for its statistics to be kept
SETTLES_S = 1.0  # of a rung: its queues come from the rung before
SLICES_MS = (0.7, 1.0, 1.4, 2.0, 2.8)
SLICE_SEEDS = 2
REPLICATIONS = 6  # of the replay: with two, the same calibration passed or failed by the draw


@dataclass(frozen=True)
class Rung:
    """One stage replayed. `rate`: 1/s. `utilization`: measured, 0 to 1. `ladder`: whether it is judged. `error`, `noise`: by
    statistic, relative; of responses that of the route with the median error.

    `cores`: node -> (measured, predicted), of processes above 5 % of a core. `routes`: route -> statistic -> measured, ms.
    """

    stage: int
    rate: float
    utilization: float
    ladder: bool
    error: Mapping[str, float]
    noise: Mapping[str, float]
    cores: Mapping[str, tuple[float, float]]
    routes: Mapping[str, Mapping[str, float]]

    def allowed(self, statistic: str) -> float:
        """Return the error that this rung may have."""
        return max(BARS[statistic], NOISE_FACTOR * self.noise[statistic])

    def excess(self, statistic: str) -> float:
        """Return the error relative to the allowed one."""
        return abs(self.error[statistic]) / self.allowed(statistic)


def replayed(run: Replayed, calibration: Calibration, seeds: int = REPLICATIONS) -> list[Rung]:
    """Return the rungs of the run that `calibration` was made from, idle stages and the warm-up left out."""
    scenario = run.scenario
    slow = slowness_of(calibration.diagnostics)
    played = [
        Replication(scenario, calibration, run.seeded, scenario.seed + seed, slowness=slow).play(run.tape)
        for seed in range(seeds)
    ]
    measured, predicted = delays.operations(run.run), [delays.table_of(one) for one in played]
    rungs, ladders = [], _ladders(run)
    for number, (start, end) in enumerate(run.stages):
        stage = scenario.workload.stages[number]
        rate = max(stage.rate_from, stage.rate_to)
        windows = (run.accounts.stage == number) & run.accounts.closed
        if rate < IDLE_BELOW or start < scenario.measure.warm_up_s - SETTLES_S or not windows.any():
            continue
        cores = _cores(run, calibration, played, windows, (start, end))
        total = _total(cores, 0)
        error, noise = {"cpu": _total(cores, 1) / total - 1.0}, {"cpu": max(_spread(run, windows), LEAST_NOISE_CORES / total)}
        span = (start + SETTLES_S, end)
        found = cells.compare([cells.responses(measured, span)], [cells.responses(one, span) for one in predicted])
        for statistic, least in LEAST.items():
            mine = sorted((c for c in found if c.statistic == statistic and c.requests >= least), key=lambda c: abs(c.error))
            if mine:
                middle = mine[(len(mine) - 1) // 2]
                error[statistic], noise[statistic] = middle.error, middle.noise
        rungs.append(
            Rung(
                number,
                rate,
                float(run.utilization[number]),
                ladders[number],
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


def _ladders(run: Replayed) -> list[bool]:
    """Return for each stage whether its mix occurs at LADDER rates or more."""
    stages = run.scenario.workload.stages
    rates: dict[str, set[float]] = {}
    for stage in stages:
        if max(stage.rate_from, stage.rate_to) >= IDLE_BELOW:
            rates.setdefault(repr(stage.mix), set()).add(stage.rate_from)
    return [len(rates.get(repr(stage.mix), ())) >= LADDER for stage in stages]


def with_slice(run: Replayed, calibration: Calibration) -> Calibration:
    """Return the calibration with the slice of SLICES_MS that reproduces p50 and p95 of the ladders best.

    Who waits for whom on a full machine depends on the kernel, the hypervisor and on what the processes do; see
    docs/decisions/0016-cpu-discipline.md.
    """
    def misfit(slice_ms: float) -> float:
        rungs = replayed(run, dataclasses.replace(calibration, slice_ms=slice_ms), SLICE_SEEDS)
        errors = [rung.error[name] for rung in rungs if rung.ladder for name in LEAST if name in rung.error]
        return float(np.mean([abs(math.log(max(1.0 + error, 0.01))) for error in errors])) if errors else 0.0

    return dataclasses.replace(calibration, slice_ms=min(SLICES_MS, key=misfit))


def judge(rungs: list[Rung]) -> list[str]:
    """Return what a calibration fails, a sentence each; empty if it may be used.

    Per statistic most rungs must be within what they may be off by, and no rung may be off by more than WORST_FACTOR
    times that: single rungs on a virtual machine are noisier than they look.
    """
    failed = []
    for statistic in BARS:
        judged = [rung for rung in rungs if rung.ladder and statistic in rung.error]
        beyond = [rung for rung in judged if rung.excess(statistic) > 1.0]
        if 2 * len(beyond) > len(judged):
            median = float(np.median([abs(rung.error[statistic]) for rung in judged]))
            failed.append(f"{statistic} is off at {len(beyond)} of {len(judged)} rungs; the median error is {median:.1%}, and "
                          f"{BARS[statistic]:.0%} or twice the rung's noise is allowed")
        for rung in judged:
            if rung.excess(statistic) > WORST_FACTOR:
                failed.append(
                    f"{statistic} at {rung.rate:g}/s ({rung.utilization:.0%} of the machine) is off by "
                    f"{rung.error[statistic]:+.0%}; {WORST_FACTOR * rung.allowed(statistic):.0%} is allowed"
                )
    return failed


def table(rungs: list[Rung]) -> list[dict[str, Any]]:
    """Return the rungs as JSON."""
    return [asdict(rung) for rung in rungs]


def _cores(
    run: Replayed, calibration: Calibration, played: list[Played], windows: NDArray[np.bool_], span: tuple[float, float]
) -> dict[str, tuple[float, float]]:
    """Return node -> (measured, predicted) mean cores in a stage."""
    found = {}
    for node, cores in run.accounts.cores.items():
        used = [one.nodes[node].mean_cores(*span) if node in one.nodes else 0.0 for one in played]
        found[node] = (float(cores[windows].mean()), float(np.mean(used)) + calibration.background_cores.get(node, 0.0))
    return found


def _total(cores: Mapping[str, tuple[float, float]], which: int) -> float:
    return sum(pair[which] for pair in cores.values())


def _spread(run: Replayed, windows: NDArray[np.bool_]) -> float:
    """Return the standard error of the mean CPU of a stage, relative."""
    total = np.sum([cores[windows] for cores in run.accounts.cores.values()], axis=0)
    if len(total) < 2:
        return 0.1
    return float(np.std(total, ddof=1) / np.sqrt(len(total)) / total.mean())
