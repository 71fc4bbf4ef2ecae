"""Simpler predictors from the same calibration data, which the twin must beat, and mutations that must be noticed.

| rival | how it predicts a route's p95 |
|---|---|
| nearest load | that of the calibration's rung with the nearest rate |
| M/M/2-PS | the lowest rung's, stretched by 1 / (1 - rho^2), rho from CPU per operation |
| universal scalability law | fitted to the rungs' (in flight, throughput) by least squares |
| curve | a parabola of log p95 over utilization |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from sim.calibration import Calibration, DelayShape
from sim.validation.judge import Judged

Rungs = Sequence[Mapping[str, Any]]


def rival_errors(
    found: Sequence[Judged], loads: Mapping[str, Mapping[str, Any]], calibration: Calibration,
    slowness: Mapping[str, float] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Return predictor -> median absolute error of p95, the twin's under `twin`. `loads`: name -> ledger entry of its
    prediction. `slowness`: load -> of the machine, which the rivals' times are multiplied by. Empty if the calibration keeps
    no rungs.
    """
    rungs = [rung for rung in calibration.diagnostics.get("rungs", ()) if rung.get("routes")]
    mine = [cell for cell in found if cell.statistic == "p95" and cell.state == "counts"]
    if not rungs or not mine:
        return {}
    errors: dict[str, list[float]] = {name: [] for name in RIVALS}
    errors["twin"] = []
    for cell in mine:
        known = [rung for rung in rungs if cell.route in rung["routes"]]
        if len(known) < 3:
            continue
        load = loads[cell.load]["load"]
        slow = (slowness or {}).get(cell.load, 1.0)
        for name, rival in RIVALS.items():
            errors[name].append(abs(slow * rival(known, cell.route, float(load["rate"])) / cell.measured - 1.0))
        errors["twin"].append(abs(cell.error))
    return {name: float(np.median(values)) for name, values in errors.items() if values}


def _nearest(rungs: Rungs, route: str, rate: float) -> float:
    return float(min(rungs, key=lambda rung: abs(rung["rate"] - rate))["routes"][route]["p95"])


def _busy(rungs: Rungs, rate: float) -> float:
    """Return the utilization at `rate`, linear in it."""
    rates, used = np.asarray([rung["rate"] for rung in rungs]), np.asarray([rung["utilization"] for rung in rungs])
    return float(min(0.97, rate * float((rates * used).sum() / (rates**2).sum())))


def _processor_sharing(rungs: Rungs, route: str, rate: float) -> float:
    lowest = min(rungs, key=lambda rung: rung["utilization"])
    bare = lowest["routes"][route]["p95"] * (1.0 - lowest["utilization"] ** 2)
    return float(bare / (1.0 - _busy(rungs, rate) ** 2))


def _scalability(rungs: Rungs, route: str, rate: float) -> float:
    rates = np.asarray([rung["rate"] for rung in rungs], dtype=np.float64)
    means = np.asarray([rung["routes"][route]["mean"] for rung in rungs]) / 1e3
    flight = rates * means

    def throughput(parameters: np.ndarray, inside: np.ndarray) -> np.ndarray:
        gain, contention, coherence = np.exp(parameters)
        return np.asarray(
            gain
            * inside
            / (1.0 + contention * np.maximum(inside - 1.0, 0.0) + coherence * inside * np.maximum(inside - 1.0, 0.0))
        )

    def misfit(parameters: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(throughput(parameters, flight)) - np.log(rates))

    fitted = optimize.least_squares(
        misfit, np.log([200.0, 0.05, 0.001])
    )
    grid = np.linspace(0.01, 200.0, 20_000)
    at = throughput(fitted.x, grid)
    reached = np.flatnonzero(at >= rate)
    inside = grid[reached[0]] if len(reached) else grid[int(np.argmax(at))]
    tail = float(np.median([rung["routes"][route]["p95"] / rung["routes"][route]["mean"] for rung in rungs]))
    return float(1e3 * inside / rate * tail)


def _curve(rungs: Rungs, route: str, rate: float) -> float:
    used = np.asarray([rung["utilization"] for rung in rungs])
    parabola = np.polyfit(used, np.log([rung["routes"][route]["p95"] for rung in rungs]), 2)
    return float(np.exp(np.polyval(parabola, _busy(rungs, rate))))


RIVALS: dict[str, Callable[[Rungs, str, float], float]] = {
    "nearest load": _nearest,
    "M/M/2-PS": _processor_sharing,
    "universal scalability law": _scalability,
    "curve": _curve,
}


# ---- mutations -------------------------------------------------------------------------------------------


def _without_mesh(calibration: Calibration) -> Calibration:
    none = DelayShape((0.0,), "mutation")
    free = calibration.costing({"haproxy-1": 0.0, "gateway-1": 0.0})
    return dataclasses.replace(free, delays={**calibration.delays, "net": none, "mesh": none})


def _half_demand(calibration: Calibration) -> Calibration:
    """Halve the process that used most CPU in the calibration."""
    cpu = calibration.diagnostics.get("cpu", {})
    return calibration.costing({max(cpu, key=lambda node: cpu[node]["mean_cores"]) if cpu else "gateway-1": 0.5})


def _no_generator(calibration: Calibration) -> Calibration:
    return calibration.costing({"load-generator": 0.0})


MUTATIONS: dict[str, Callable[[Calibration], Calibration]] = {
    "a hop is missing": _without_mesh,
    "a demand is halved": _half_demand,
    "the generator uses no CPU": _no_generator,
}
"""Wrong models, which a validation must recognize: each must push a bar to red."""
