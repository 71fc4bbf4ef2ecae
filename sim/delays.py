"""Delays without CPU, fitted so that the model reproduces the quantiles of a low-load run.

The stores' delays get one common factor; the remaining gap of a route's quantiles goes into the route's own
delay. Each round plays the run's operations through the model and adds the gap between measured and simulated
quantiles to the delay's quantiles (never below zero, in rising order). At low load the two are nearly
additive, so three rounds suffice. A route that is served partly from the cache and partly by a rebuild has a
bimodal distribution: its own delay is fitted on the hits if there are enough of them, and the additional time
of a rebuild comes from the stores' delays and CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports import delivery, record
from scenarios import spec, workload
from sim.calibration import Calibration, DelayShape
from sim.jobs import Context
from sim.replication import Played, Replication
from sim.state import Seeded

Floats = NDArray[np.float64]
Samples = dict[tuple[str, bool], Floats]
"""(route, whether it was a cache hit) -> response times in ms, ascending."""

STORES = ("cassandra", "elasticsearch", "kafka", "minio", "postgres", "redis")
FACTORS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
ROUNDS = 3
SEEDS = 2
TOO_SLOW = 10.0
LEAST = 12  # responses of a route below which its delay is not changed
MOST_STEPS = 21
PER_STEP = 6  # responses per quantile step
HIT = "hit"
DELIVERY = "fanout.poll"


def fit(
    run: record.Run, scenario: spec.Scenario, start: Calibration, seeded: Seeded, tape: workload.Tape
) -> tuple[dict[str, DelayShape], dict[str, Any]]:
    """Return (delays, remaining gap by route) for a low-load run.

    Routes with few responses keep the prior's delay.
    """
    measured = _measured(run)
    net_ms = _net_ms(run)
    shapes = dict(start.delays)
    kinds = _fitted_on(measured)
    for route in kinds:
        known = start.delays[f"{route}.net"].quantiles_ms[0]
        shapes[f"{route}.net"] = DelayShape((round(net_ms.get(route, known), 4),), run.run_id)
        shapes[f"{route}.store"] = DelayShape((0.0,), run.run_id)

    def play(now: Mapping[str, DelayShape], seeds: int) -> tuple[Samples, Floats]:
        return _simulated(scenario, dataclasses.replace(start, delays=now), seeded, tape, seeds)

    factor = _factor(measured, shapes, start.delays, play)
    shapes |= {name: _scaled(start.delays[name], factor, run.run_id) for name in STORES}
    behind = _behind(run)
    for _ in range(ROUNDS):
        simulated, late = play(shapes, SEEDS)
        for route, hit in kinds.items():
            if len(simulated.get((route, hit), ())):
                shapes |= _corrected(shapes, route, measured[route, hit], simulated[route, hit], run.run_id)
        if len(behind) >= LEAST and len(late):
            shapes[DELIVERY] = _shape(np.maximum(_moved(shapes[DELIVERY], behind, late), 0.0), run.run_id)
    simulated, _ = play(shapes, SEEDS)
    return shapes, {"store_factor": factor, "gap_ms": _gaps(measured, simulated)}


def _measured(run: record.Run) -> Samples:
    """Return response times (ms) of OK operations by (route, whether a hit), from their intended start."""
    history = run.history
    rows = history[(history["outcome"] == "ok") & (history["attempt"] == 0) & (history["route"] != "null")]
    took = ((rows["done_ns"] - rows["due_ns"]) / 1e6).to_numpy(dtype=np.float64)
    return _grouped(rows["route"].tolist(), rows["source"].tolist(), took.tolist())


def _grouped(routes: list[str], sources: list[str], took_ms: list[float]) -> Samples:
    groups: dict[tuple[str, bool], list[float]] = {}
    for route, source, value in zip(routes, sources, took_ms, strict=True):
        groups.setdefault((route, source.startswith(HIT)), []).append(value)
    return {key: np.sort(values) for key, values in groups.items()}


def _fitted_on(measured: Samples) -> dict[str, bool]:
    """Return route -> whether its own delay is fitted on hits.

    Routes with too few responses of either kind are omitted.
    """
    fitted = {route: False for (route, hit), values in measured.items() if not hit and len(values) >= LEAST}
    return fitted | {route: True for (route, hit), values in measured.items() if hit and len(values) >= LEAST}


def _net_ms(run: record.Run) -> dict[str, float]:
    """Return the median time outside the gateway by route, minus 0.3 ms of CPU in client and proxy."""
    rows = run.history[(run.history["outcome"] == "ok") & run.history["gateway_us"].notna()]
    outside = (rows["done_ns"] - rows["sent_ns"]) / 1e6 - rows["gateway_us"] / 1e3
    return {str(route): max(0.0, float(value) - 0.3) for route, value in outside.groupby(rows["route"]).median().items()}


def _behind(run: record.Run) -> Floats:
    """Return delivery times of pushed tweets after their acknowledgement (ms), sorted."""
    start_ns = int(run.document["clock"]["start_monotonic_ns"])
    return np.sort(delivery.table(run.history, run.effects, start_ns)["delay_s"].to_numpy(dtype=np.float64) * 1e3)


def _simulated(
    scenario: spec.Scenario, calibration: Calibration, seeded: Seeded, tape: workload.Tape, seeds: int
) -> tuple[Samples, Floats]:
    """Return the model's response times and delivery times (ms), pooled over `seeds` seeds."""
    good: list[Context] = []
    late: list[float] = []
    for seed in range(seeds):
        played = Replication(scenario, calibration, seeded, 1000 + seed).play(tape)
        good += [ctx for ctx in played.operations if ctx.status == 200]
        late += _late(played)
    took = [(ctx.done - ctx.due) * 1e3 for ctx in good]
    return _grouped([ctx.route for ctx in good], [ctx.source for ctx in good], took), np.sort(late)


def _late(played: Played) -> list[float]:
    acked = {str(ctx.tweet): ctx.done for ctx in played.operations if ctx.tweet and ctx.status == 200}
    pushed = [row for row in played.effects if row.path == "push" and row.key in acked]
    return [max(0.0, row.at_s - acked[row.key]) * 1e3 for row in pushed]


def _factor(
    measured: Samples,
    shapes: Mapping[str, DelayShape],
    prior: Mapping[str, DelayShape],
    play: Callable[[Mapping[str, DelayShape], int], tuple[Samples, Floats]],
) -> float:
    """Return the factor on the stores' delays that fits the lower quantiles best, from below.

    A route's own delay can add time, but hardly remove any: so excess time counts `TOO_SLOW` times.
    """
    best, least = 1.0, np.inf
    for factor in FACTORS:
        simulated, _ = play({**shapes, **{name: _scaled(prior[name], factor, "") for name in STORES}}, 1)
        cost = 0.01 * abs(float(np.log(factor)))  # on a tie the prior wins
        for key, values in measured.items():
            if len(values) >= LEAST and key in simulated:
                gaps = [float(np.quantile(simulated[key], q) / np.quantile(values, q)) - 1.0 for q in (0.1, 0.5)]
                cost += len(values) * sum(TOO_SLOW * gap if gap > 0.0 else -gap for gap in gaps)
        if cost < least:
            best, least = factor, cost
    return best


def _scaled(shape: DelayShape, factor: float, source: str) -> DelayShape:
    return DelayShape(tuple(round(value * factor, 5) for value in shape.quantiles_ms), source or shape.source)


def _moved(shape: DelayShape, measured: Floats, simulated: Floats) -> Floats:
    """Return the delay's quantiles with the gap between the two samples' quantiles added, in rising order."""
    steps = np.linspace(0.0, 1.0, int(np.clip(len(measured) // PER_STEP, 3, MOST_STEPS)))
    old = np.interp(steps, np.linspace(0.0, 1.0, len(shape.quantiles_ms)), shape.quantiles_ms)
    gap = np.quantile(measured, steps) - np.quantile(simulated, steps)
    return np.asarray(np.sort(old + gap), dtype=np.float64)


def _shape(quantiles_ms: Floats, source: str) -> DelayShape:
    return DelayShape(tuple(round(float(value), 4) for value in quantiles_ms), source)


def _corrected(
    shapes: Mapping[str, DelayShape], route: str, measured: Floats, simulated: Floats, source: str
) -> dict[str, DelayShape]:
    """Return the route's two delays after one round.

    What would make the inner one negative is taken from the outer one.
    """
    new = _moved(shapes[f"{route}.store"], measured, simulated)
    net_ms = shapes[f"{route}.net"].quantiles_ms[0]
    shift = min(net_ms, max(0.0, -float(np.median(new[: len(new) // 2 + 1]))))
    return {
        f"{route}.store": _shape(np.maximum(new + shift, 0.0), source),
        f"{route}.net": DelayShape((round(net_ms - shift, 4),), source),
    }


def _gaps(measured: Samples, simulated: Samples) -> dict[str, dict[str, float]]:
    """Return simulated minus measured median and p95 (ms), by route and kind."""
    return {
        f"{route}{' hit' if hit else ''}": {
            "n": len(values),
            **{
                name: round(float(np.quantile(simulated[route, hit], q) - np.quantile(values, q)), 3)
                for name, q in (("p50", 0.5), ("p95", 0.95))
            },
        }
        for (route, hit), values in sorted(measured.items())
        if len(simulated.get((route, hit), ()))
    }
