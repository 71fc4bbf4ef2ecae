"""Predictions of a validation, and what an error consists of.

What is judged is the prediction that `tweetlab run --on both` shows: for the speed that the machine had during the run,
from its speed probe, which does other work than the lab. Beside it stand: **As calibrated**: the error of the prediction
that was written to the ledger before the run, for the speed at which the machine was calibrated. **Structure**: the error
that remains when each process is given the CPU that it really used (one factor per process, fitted to the run itself: an
oracle, not a prediction). **CPU**: predicted against measured CPU. **Noise**: the standard error of the measurement. A
large structure error means that the model lacks something; a large CPU error with a small structure error that the
calibration is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports import record
from scenarios import spec, workload
from scenarios.world import seeded_world
from sim import calibrate, delays
from sim.calibration import Calibration
from sim.replication import Played, Replication
from sim.state import Seeded
from sim.validation import cells

SEEDS = 3
ORACLE_ROUNDS = 2
AFTER_S = 10.0  # after a cache loss


@dataclass(frozen=True)
class Predicted:
    """What the model says of one load. `routes`: route -> statistic -> ms. `cores`: node -> mean cores while steady.

    `utilization`: of the machine, 0 to 1. With a cache loss also: `rebuilds`: share of rebuilds of home reads by 5 s;
    `after_loss`: mean and p95 of home reads in the AFTER_S after it, ms; `recovery_s`.
    """

    routes: Mapping[str, Mapping[str, float]]
    cores: Mapping[str, float]
    utilization: float
    rebuilds: tuple[float, ...] = ()
    after_loss: Mapping[str, float] = dataclasses.field(default_factory=dict)
    recovery_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return dict(_rounded(dataclasses.asdict(self)))


def of_load(scenario: spec.Scenario, calibration: Calibration, seeds: int = SEEDS) -> Predicted:
    """Predict the steady part of `scenario`."""
    return _predicted(replications(scenario, calibration, seeds), scenario, calibration)


def replications(scenario: spec.Scenario, calibration: Calibration, seeds: int) -> list[Played]:
    """Return `seeds` plays of the scenario's load, which is the same in all of them."""
    world = seeded_world.draw(scenario.population, scenario.seed)
    tape = workload.draw_over(scenario, world)
    return _play(scenario, calibration, Seeded.of(scenario, world.graph, world.past), tape, seeds)


def _play(
    scenario: spec.Scenario, calibration: Calibration, seeded: Seeded, tape: workload.Tape, seeds: int,
    slowness: Callable[[float], float] | None = None,
) -> list[Played]:  # fmt: skip
    return [
        Replication(scenario, calibration, seeded, scenario.seed + seed, slowness=slowness).play(tape) for seed in range(seeds)
    ]


def _predicted(played: Sequence[Played], scenario: spec.Scenario, calibration: Calibration) -> Predicted:
    span = steady(scenario)
    operations = [delays.table_of(one) for one in played]
    tables = [cells.responses(one, span) for one in operations]
    routes = {
        route: {
            name: float(np.median([statistic(one[route][1]) for one in tables]))
            for name, statistic in cells.STATISTICS.items()
        }
        for route in sorted(set.intersection(*(set(one) for one in tables)))
    }
    cores = {
        node: float(np.mean([used(one, node, span) for one in played])) + calibration.background_cores.get(node, 0.0)
        for node in {*played[0].nodes, *calibration.background_cores}
    }
    shares = [rebuilds(one, scenario) for one in operations]
    return Predicted(
        routes,
        cores,
        sum(cores.values()) / calibration.cores,
        tuple(np.nanmean(shares, axis=0).tolist()) if shares[0] else (),
        _median_of([after_loss(one, scenario) for one in operations]),
        _median_of([{"s": took} for one in operations if (took := recovery_s(one, scenario)) is not None]).get("s"),
    )


def _median_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.median([one[name] for one in found])) for name in (found[0] if found else ())}


def steady(scenario: spec.Scenario) -> tuple[float, float]:
    """Return (start, end) of the part that is judged, s."""
    return scenario.measure.warm_up_s, scenario.workload.load_s


def used(played: Played, node: str, span: tuple[float, float]) -> float:
    """Return the mean cores of a process in `span`, s, without its background; 0 if the model does not have it."""
    known = played.nodes.get(node)
    return 0.0 if known is None else known.mean_cores(*span)


def rebuilds(table: Any, scenario: spec.Scenario) -> list[float]:
    """Return the share of home reads that rebuilt a list, by 5 s of the load, where it has a cache loss; else []."""
    if not scenario.faults:
        return []
    home = table[table["route"] == "home"]
    bins = (home["due"] // 5_000).astype(int)
    by_bin = home["source"].str.startswith("rebuild").groupby(bins).mean()
    return [float(by_bin.get(number, np.nan)) for number in range(int(scenario.workload.load_s // 5))]


# ---- one run ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Examined:
    """One run of a load. `routes`: route -> statistic -> ms; `requests`: route -> OK ones; `noise`: route -> statistic ->
    standard error, ms. `structure`: route -> statistic -> relative error with right demands. `at_speed`: what the model says
    at the speed that the machine had; `slowness`: that speed against its calibration; None without a probe.
    """

    routes: Mapping[str, Mapping[str, float]]
    requests: Mapping[str, int]
    noise: Mapping[str, Mapping[str, float]]
    cores: Mapping[str, float]
    utilization: float
    dropped: float
    structure: Mapping[str, Mapping[str, float]]
    at_speed: Predicted | None
    slowness: float | None
    rebuilds: tuple[float, ...] = ()
    after_loss: Mapping[str, float] = dataclasses.field(default_factory=dict)
    recovery_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return dict(_rounded(dataclasses.asdict(self)))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return round(value, 5) if isinstance(value, float) else value


def examine(run: record.Run, calibration: Calibration) -> Examined:
    """Return what a run measured, and the structure part of the model's error on it."""
    replayed = calibrate.replay(run, calibration.cores)
    scenario = replayed.scenario
    span = steady(scenario)
    table = delays.operations(run)
    measured = cells.responses(table, span)
    accounts = replayed.accounts
    inside = accounts.closed & (accounts.starts_s >= span[0] - 1e-9)
    cores = {node: float(values[inside].mean()) for node, values in accounts.cores.items()} if inside.any() else {}
    oracle = _with_right_demands(replayed, calibration, cores, span) if cores else calibration
    right = _predicted(_play(scenario, oracle, replayed.seeded, replayed.tape, 2), scenario, oracle)
    routes = {
        route: {name: statistic(took) for name, statistic in cells.STATISTICS.items()}
        for route, (_, took) in measured.items()
    }
    machine = calibrate.machine_speed(run, calibration)
    at_speed = None
    if machine is not None:
        known = dataclasses.replace(calibration, core_speed=machine.core_speed)
        played = _play(scenario, known, replayed.seeded, replayed.tape, 2, machine.slowness)
        at_speed = _predicted(played, scenario, known)
    return Examined(
        routes,
        {route: len(took) for route, (_, took) in measured.items()},
        cells.noise_of(measured),
        cores,
        float(accounts.busy_cores[inside].mean()) / calibration.cores if inside.any() else 0.0,
        accounts.dropped,
        _errors(right, routes),
        at_speed,
        None if machine is None else machine.mean,
        tuple(rebuilds(table, scenario)),
        after_loss(table, scenario),
        recovery_s(table, scenario),
    )


def _errors(predicted: Predicted, measured: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {
        route: {name: predicted.routes[route][name] / value - 1.0 for name, value in values.items()}
        for route, values in measured.items()
        if route in predicted.routes
    }


def after_loss(table: Any, scenario: spec.Scenario) -> dict[str, float]:
    """Return mean and p95 of home reads due in the AFTER_S after a cache loss, ms; {} without one."""
    if not scenario.faults:
        return {}
    at_ms = scenario.faults[0].at_s * 1e3
    home = table[(table["route"] == "home") & (table["due"] >= at_ms) & (table["due"] < at_ms + AFTER_S * 1e3)]
    took = (home["done"] - home["due"]).to_numpy(np.float64)
    return {name: cells.STATISTICS[name](took) for name in ("mean", "p95")} if len(took) else {}


def recovery_s(table: Any, scenario: spec.Scenario) -> float | None:
    """Return the seconds from a cache loss to the start of the first of three 1 s windows with home p95 <= 1.5 x before; None
    if there are none in the load.
    """
    if not scenario.faults:
        return None
    at_s = scenario.faults[0].at_s
    home = table[table["route"] == "home"]
    due, took = home["due"].to_numpy(np.float64) / 1e3, (home["done"] - home["due"]).to_numpy(np.float64)
    before = took[(due >= scenario.measure.warm_up_s) & (due < at_s)]
    if not len(before):
        return None
    bound, good = 1.5 * float(np.quantile(before, 0.95)), 0
    for number in range(int(scenario.workload.load_s - at_s)):
        window = took[(due >= at_s + number) & (due < at_s + number + 1)]
        good = good + 1 if len(window) and float(np.quantile(window, 0.95)) <= bound else 0
        if good == 3:
            return float(number - 2)
    return None


def _with_right_demands(
    replayed: calibrate.Replayed, calibration: Calibration, cores: Mapping[str, float], span: tuple[float, float]
) -> Calibration:
    """Return the calibration with each process' costs scaled until it uses the measured CPU in this run."""
    right = calibration
    for _ in range(ORACLE_ROUNDS):
        [played] = _play(replayed.scenario, right, replayed.seeded, replayed.tape, 1)
        factors = {}
        for node, measured in cores.items():
            expected = used(played, node, span)
            above = measured - right.background_cores.get(node, 0.0)
            if expected > 0.002 and above > 0.0:
                factors[node] = above / expected
        right = right.scaled(factors)
    return right
