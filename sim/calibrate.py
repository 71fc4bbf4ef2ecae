"""Quick calibration: from the record of one low-load run to a calibration file.

Three steps. **Work**: the model replays the operations of the run and counts units of work per second.
**CPU**: that work explains each process' measured CPU (`sim.demand`). **Delays**: the difference between
measured and simulated response times is delay without CPU (network wake-ups, disks, waits of other programs);
the quantiles of each route's delay are corrected until the model reproduces the run's quantiles at low load,
where nothing queues.

A prediction of the run that the calibration was made from proves nothing: `in_sample_of` stores its id, and
the twin marks such a prediction IN-SAMPLE.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports import record
from scenarios import spec, vocabulary, workload
from scenarios.world import population
from sim import delays, demand, outcome, recorded, services
from sim.calibration import Calibration, UnitCost, default
from sim.replication import Replication
from sim.state import Seeded
from system.kernel.errors import WrongInput

LEAST_OPERATIONS = 50
QUICK = "quick calibration, 1 load"


def quick(run: record.Run, prior: Calibration | None = None) -> Calibration:
    """Return the calibration of one finished low-load run.

    `prior`: values for what the run cannot determine; None for the shipped default. Raises WrongInput if the
    record has too few operations or no CPU series.
    """
    known = prior or default()
    scenario = recorded.scenario_of(run.document)
    graph = population.graph_of(scenario.population, scenario.seed)
    tape = tape_of(run, scenario)
    seeded = Seeded.of(scenario, graph)
    replayed = dataclasses.replace(scenario, faults=_actual_faults(run))
    work = Replication(replayed, known, seeded, scenario.seed, count_work=True).play(tape).work
    units, background, diagnostics = demands(run.series, work, known)
    with_cpu = dataclasses.replace(known, units=units, background_cores=background)
    shapes, fit_diagnostics = delays.fit(run, replayed, with_cpu, seeded, tape)
    return dataclasses.replace(
        with_cpu,
        label=QUICK,
        delays=shapes,
        in_sample_of=run.run_id,
        provenance=provenance(run, len(tape)),
        diagnostics={"cpu": diagnostics, "delays": fit_diagnostics},
    )


def tape_of(run: record.Run, scenario: spec.Scenario) -> workload.Tape:
    """Return the operations that the run actually performed, second pages included, as a tape."""
    history = run.history
    rows = history[(history["attempt"] == 0) & history["route"].isin(list(vocabulary.ROUTES))]
    rows = rows.sort_values("due_ns", kind="stable")
    if len(rows) < LEAST_OPERATIONS:
        raise WrongInput(
            f"{run.path} has {len(rows)} operations; a calibration needs at least {LEAST_OPERATIONS}. "
            "Give the calibration run a longer stage or a higher rate."
        )
    start_ns = int(run.document["clock"]["start_monotonic_ns"])
    index = {name: number for number, name in enumerate(workload.ROUTES)}
    return workload.Tape(
        due_ns=np.maximum(rows["due_ns"].to_numpy(dtype=np.int64) - start_ns, 0),
        route=np.asarray([index[name] for name in rows["route"]], dtype=np.int16),
        routes=workload.ROUTES,
        user=rows["user"].to_numpy(dtype=np.int64),
        target=_targets(rows),
        second_page=np.zeros(len(rows), dtype=np.bool_),
        seed=scenario.seed,
    )


def _actual_faults(run: record.Run) -> tuple[spec.Fault, ...]:
    """Return the run's faults at their actual times: a cache loss causes rebuilds, whose CPU must be counted."""
    windows = run.document["windows"]["faults"]
    return tuple(spec.Fault(float(one["start_s"]), one["kind"], one["target"]) for one in windows)


def _targets(rows: pd.DataFrame) -> np.ndarray:
    """Return the target of each row: a read of a user's tweets without a target reads the reader's own."""
    target = rows["target"].to_numpy(dtype=np.int64)
    return np.where((rows["route"] == "user_tweets") & (target <= 0), rows["user"].to_numpy(dtype=np.int64), target)


# ---- CPU -------------------------------------------------------------------------------------------------

def demands(
    series: pd.DataFrame, work: Mapping[str, tuple[list[float], list[float]]], prior: Calibration
) -> tuple[dict[str, UnitCost], dict[str, float], dict[str, Any]]:
    """Return (units, background cores by node, diagnostics by node) from a run's CPU series and its counted work.

    All CPU of a node that the model does not have (the runner, the host's own work) becomes background.
    """
    cpu = series[(series["name"] == "cpu_cores") & series["value"].notna()]
    if cpu.empty:
        raise WrongInput("The record has no `cpu_cores` series; calibrate from a run of the real system.")
    units, background, diagnostics = dict(prior.units), dict.fromkeys(services.WIDTHS, 0.0), dict[str, Any]()
    background |= dict(prior.background_cores)
    for node, rows in cpu.groupby("node"):
        name = str(node)
        windows = _windows(rows)
        measured = rows.sort_values("t_s")["value"].to_numpy(dtype=np.float64)
        own_units = [unit for unit in work if unit.startswith(f"{name}.")]
        if not own_units or len(measured) < 5:
            background[name] = float(measured.mean())
            continue
        fitted, rows_of = _fit_node(own_units, work, prior, windows, measured, prior.background_cores.get(name, 0.0))
        background[name] = fitted.background_cores
        units |= _costs(own_units, rows_of, fitted, prior)
        diagnostics[name] = {
            "windows": fitted.windows,
            "condition": round(fitted.condition, 2),
            "residual_cores": round(fitted.residual_cores, 5),
            "mean_cores": round(float(measured.mean()), 5),
        }
    background[outcome.HOST] = _unexplained(series, cpu)
    return units, background, diagnostics


def _windows(rows: pd.DataFrame) -> list[tuple[float, float]]:
    starts = np.sort(rows["t_s"].to_numpy(dtype=np.float64))
    length = float(np.median(np.diff(starts))) if len(starts) > 1 else 1.0
    return [(start, start + length) for start in starts]


def _fit_node(
    units: list[str], work: Mapping[str, tuple[list[float], list[float]]], prior: Calibration,
    windows: list[tuple[float, float]], measured: np.ndarray, background_cores: float,
) -> tuple[demand.Fitted, list[tuple[str, str]]]:  # fmt: skip
    """Fit one process.

    A unit with a cost per item has two columns, so that a and b of a + b * n are separate.
    """
    columns, names = [], []
    for unit in units:
        counts, sizes = work[unit]
        cost = prior.units[unit]
        for part, by_second, price_us in (("base", counts, cost.base_us), ("item", sizes, cost.per_item_us)):
            if price_us > 0.0:
                columns.append(demand.work_in(windows, by_second) * price_us * 1e-6)
                names.append((unit, part))
    sleeps = services.WIDTHS[units[0].partition(".")[0]] == 1
    spread = demand.LOOP_SPREAD if sleeps else demand.BACKGROUND_SPREAD
    return demand.fit(np.column_stack(columns), measured, background_cores, spread), names


def _costs(
    units: list[str], names: list[tuple[str, str]], fitted: demand.Fitted, prior: Calibration
) -> dict[str, UnitCost]:
    costs = {}
    place = {name: index for index, name in enumerate(names)}
    for unit in units:
        base, item = place.get((unit, "base")), place.get((unit, "item"))
        main = base if base is not None else item
        if main is None:
            continue
        cost = prior.units[unit]
        base_us = cost.base_us * (float(fitted.factors[base]) if base is not None else 1.0)
        item_us = cost.per_item_us * (float(fitted.factors[item]) if item is not None else 1.0)
        scale = cost.base_us if base is not None else cost.per_item_us
        identified = bool(fitted.identified[main])
        costs[unit] = UnitCost(
            round(base_us, 3), round(item_us, 4), round(scale * float(fitted.low[main]), 3),
            round(scale * float(fitted.high[main]), 3), identified,
            "regression on windows of the run" if identified
            else "prior, scaled with its process; the run could not distinguish it",
        )  # fmt: skip
    return costs


def _unexplained(series: pd.DataFrame, cpu: pd.DataFrame) -> float:
    """Return the mean busy cores of the host beyond all listed processes; 0 if the run did not measure it."""
    busy = series[series["name"] == "host_busy_cores"].groupby("t_s")["value"].sum()
    listed = cpu.groupby("t_s")["value"].sum()
    both = busy.index.intersection(listed.index)
    return max(0.0, float((busy[both] - listed[both]).mean())) if len(both) else 0.0


def provenance(run: record.Run, operations: int) -> dict[str, Any]:
    """Return the source of the numbers."""
    document = run.document
    windows = document["windows"]
    return {
        "kind": "measured",
        "runs": [run.run_id],
        "operations": operations,
        "load_s": windows["load_s"],
        "commit": document["commit"],
        "started_at": document["started_at"],
        "host": {key: document["host"].get(key) for key in ("cpu_model", "cores", "mem_mib", "kernel")},
        "versions": dict(document["versions"]),
    }
