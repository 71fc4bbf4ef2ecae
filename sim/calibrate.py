"""From the record of a calibration run to a calibration file.

`full` fits every cost, `quick` one factor per process. Four steps. **Accounts**: CPU by window; windows in which
other programs ran are dropped (`reports.accounts`). **Work**: the model replays the operations of the run and counts
units of work per second. **CPU**: that work explains each process' measured CPU (`sim.demand`). **Delays**: what
remains of each hop is delay without CPU (`sim.delays`).

A prediction of the run that the calibration was made from proves nothing: `in_sample_of` stores its id, and
the twin marks such a prediction IN-SAMPLE.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports import accounts as cpu_accounts
from reports import record
from scenarios import spec, vocabulary, workload
from scenarios.world import population
from sim import delays, demand, recorded, services, speed, stores
from sim.calibration import Calibration, Exponent, UnitCost, default
from sim.replication import Replication
from sim.state import Seeded
from system.kernel.errors import WrongInput

Work = Mapping[str, tuple[list[float], list[float]]]
"""Unit -> (counts, summed sizes) by second of the run."""

LEAST_OPERATIONS = 50
FULL, QUICK = "full calibration", "quick calibration"
QUICK_SPREAD = 0.05  # of an exponent that the prior's own ladder has measured
IDLE_BELOW = 1.0   # requests/s: a stage with less is idle
IDLE_ROUNDS = 2
SPEED_ROUNDS = 5
DELAYS_BELOW = 0.45  # utilization of the stages whose hops give the delays

EXPONENTS: dict[str, tuple[float, float]] = {
    **dict.fromkeys((services.GATEWAY, services.GENERATOR), (0.2, 0.1)),
    **dict.fromkeys((stores.CASSANDRA, stores.KAFKA, stores.ELASTIC, stores.POSTGRES), (0.15, 0.1)),
    services.HAPROXY: (0.1, 0.1),
    stores.REDIS: (0.0, 0.05),
}
"""Node -> (exponent, standard deviation) before the fit; 0.05 +- 0.1 for all others."""
OTHER = (0.05, 0.1)


AUDIENCE: dict[str, tuple[float, float]] = {
    f"{stores.REDIS}.push": (40.0, 3.2), f"{services.FANOUT}.chunk": (40.0, 0.05),
}
"""Unit -> (µs per call, µs per follower), almost given: in one population the mean audience is the same in every window,
so a run cannot tell the two apart, nor either from what else a post causes. 3.2 µs per delivery is what the bench's
fan-out row measures (Lua, 300,000 deliveries/s)."""
ONE_EXCHANGE = tuple(sorted(vocabulary.ROUTES.keys() - {"media"}))
ALIKE: tuple[tuple[str, ...], ...] = (
    tuple(f"{services.GATEWAY}.{route}" for route in ONE_EXCHANGE),
    tuple(f"{services.GENERATOR}.{route}" for route in ONE_EXCHANGE),
    tuple(f"{services.USERS}.{route}" for route in ("follow", "unfollow")),
    tuple(f"{stores.POSTGRES}.{unit}" for unit in ("edge", "like", "reserve")),
    tuple(f"{stores.REDIS}.{unit}" for unit in ("begin", "fill", "complete")),
)
"""Units of about the same work: before the fit all of a group have its median cost. Some always occur in the same ratio (six
follows to three unfollows), so a run cannot tell them apart; a prior that is an earlier fit would keep, and with each
generation increase, whatever difference that one happened to find."""
ALIKE_SPREAD = 0.2  # of the factor on these, relative
AUDIENCE_SPREAD = 0.1  # of the factor on these, relative


@dataclass(frozen=True)
class Replayed:
    """What a fit of one run starts from. `stages`: (start, end) of each, s; `utilization`: of each, 0 to 1."""

    run: record.Run
    scenario: spec.Scenario
    seeded: Seeded
    tape: workload.Tape
    accounts: cpu_accounts.Accounts
    stages: list[tuple[float, float]]
    utilization: NDArray[np.float64]


def full(run: record.Run, lists: record.Run | None = None, prior: Calibration | None = None) -> Calibration:
    """Return the calibration of one finished run that has an idle stage and ladders of load.

    `lists`: a run with longer lists and more pulled authors, which adds its windows to those of the fit of CPU. `prior`: values
    for what the runs cannot determine; None for the shipped default. Raises WrongInput if a record has too few operations or
    no CPU series, or if too many of its windows do not close.
    """
    return _fitted([run] if lists is None else [run, lists], prior or default(), FULL)


def quick(run: record.Run, prior: Calibration | None = None) -> Calibration:
    """Return `prior` with one factor and one exponent per process, and the delays of hops, fitted to a short run.

    `prior`: None for the shipped default. The ratios between units of work stay those of the prior, and so do delays of
    hops that are rare in the run. Raises WrongInput as `full`.
    """
    return _fitted([run], prior or default(), QUICK)


def _fitted(runs: Sequence[record.Run], known: Calibration, label: str) -> Calibration:
    if label == FULL:
        known = dataclasses.replace(known, units=levelled(known.units), off_path={})
    measured = [Measured.of(run, known) for run in runs]
    run, replayed = runs[0], measured[0].replayed
    units, background, exponents, cpu = demands(measured, known, together=label == QUICK)
    with_cpu = dataclasses.replace(known, units=units, background_cores=background, exponents=exponents,
                                   core_speed=core_speed_of(run) or known.core_speed)
    shapes, off_path, hops = delays.fit(run, replayed.scenario, with_cpu, replayed.seeded, replayed.tape, low_load(replayed),
                                        slowness_of(cpu), shift=label == QUICK)
    source = provenance(run, len(replayed.tape))
    if label == QUICK:
        source["ratios_of"] = dict(known.provenance)
    else:
        source["runs"] = [one.run_id for one in runs]
    return dataclasses.replace(
        with_cpu,
        label=label,
        delays=shapes,
        off_path=off_path,
        in_sample_of=run.run_id,
        provenance=source,
        diagnostics={**cpu, "delays": hops, "dropped_windows": round(replayed.accounts.dropped, 3)},
    )


def core_speed_of(run: record.Run) -> speed.CoreSpeed | None:
    """Return how the speed of the cores changed during a run; None if it was not probed."""
    found = run.document["platform"].get("core_speed")
    return speed.CoreSpeed(**found) if found else None


def machine_speed(run: record.Run, calibration: Calibration) -> speed.MachineSpeed | None:
    """Return how fast the machine was during `run`, relative to the calibration; None if either was not probed."""
    cores, reference_us = core_speed_of(run), calibration.diagnostics.get("probe_us")
    found = cpu_accounts.of_run(run.series, cpu_accounts.stages_of(run.document))
    if cores is None or not reference_us or found.probe_us is None:
        return None
    return speed.during(found.starts_s, found.ends_s, found.probe_us, float(reference_us), cores)


def slowness_of(diagnostics: Mapping[str, Any]) -> Callable[[float], float]:
    """Return how slow the machine was during a calibration run, by time (s), from the calibration's diagnostics."""
    rows = diagnostics.get("slowness", ())
    return speed.by_second([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])


def levelled(units: Mapping[str, UnitCost]) -> dict[str, UnitCost]:
    """Return the costs, those of each group of ALIKE set to the median of the group."""
    made = dict(units)
    for group in ALIKE:
        known = [unit for unit in group if unit in units]
        middle = float(np.median([units[unit].base_us for unit in known])) if known else 0.0
        made |= {unit: dataclasses.replace(units[unit], base_us=middle) for unit in known}
    return made


def _require_closed(replayed: Replayed) -> None:
    if not replayed.accounts.counts:
        raise WrongInput(
            f"{replayed.accounts.dropped:.0%} of the windows of {replayed.run.path} contain CPU of other programs; at most "
            f"{cpu_accounts.MOST_DROPPED:.0%} may. Stop what else runs on this machine and calibrate again.")


def replay(run: record.Run, cores: float) -> Replayed:
    """Return the scenario, operations and accounts of a run of the real system."""
    scenario = recorded.scenario_of(run.document)
    graph = population.graph_of(scenario.population, scenario.seed)
    stages = cpu_accounts.stages_of(run.document)
    accounts = cpu_accounts.of_run(run.series, stages)
    used = [accounts.busy_cores[(accounts.stage == number) & accounts.closed] for number in range(len(stages))]
    utilization = np.asarray([float(one.mean()) / cores if len(one) else 1.0 for one in used])
    replayed = dataclasses.replace(scenario, faults=_actual_faults(run))
    return Replayed(run, replayed, Seeded.of(scenario, graph), tape_of(run, scenario), accounts, stages, utilization)


def counted(replayed: Replayed, calibration: Calibration) -> Work:
    """Return the units of work that the run's operations cause, by second."""
    scenario = replayed.scenario
    return Replication(scenario, calibration, replayed.seeded, scenario.seed, count_work=True).play(replayed.tape).work


def low_load(replayed: Replayed) -> list[tuple[float, float]]:
    """Return the stages, without their first second, whose hops are free of much waiting; none with a fault."""
    faults = [fault.at_s for fault in replayed.scenario.faults]
    return [(start + 1.0, end) for (start, end), used in zip(replayed.stages, replayed.utilization, strict=True)
            if used <= DELAYS_BELOW and not any(start <= at < end for at in faults)]


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
    """Return the target of each row. A read of a user's tweets without a target reads the reader's own.

    A search has the number of its word. Recorded is the tweet whose words were searched for, or nothing: word 0.
    """
    target = rows["target"].to_numpy(dtype=np.int64)
    target = np.where((rows["route"] == "user_tweets") & (target <= 0), rows["user"].to_numpy(dtype=np.int64), target)
    return np.where(rows["route"] == "search", 0, target)


# ---- CPU -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Measured:
    """The windows of one run that the fit of CPU uses. `work`: what the run's operations cause, as the model counts it.

    `spans`: (start, end), s; `idle`: bool, shape (windows,); `cores`: node -> CPU, shape (windows,).
    """

    replayed: Replayed
    work: Work
    spans: list[tuple[float, float]]
    idle: NDArray[np.bool_]
    cores: dict[str, NDArray[np.float64]]
    probed_us: NDArray[np.float64] | None

    @classmethod
    def of(cls, run: record.Run, calibration: Calibration) -> Measured:
        """Read a run and count its work. Raises WrongInput as `full`."""
        replayed = replay(run, calibration.cores)
        _require_closed(replayed)
        accounts = replayed.accounts
        kept = accounts.closed & (accounts.starts_s >= replayed.scenario.measure.warm_up_s - 1.0)
        return cls(
            replayed,
            counted(replayed, calibration),
            list(zip(accounts.starts_s[kept].tolist(), accounts.ends_s[kept].tolist(), strict=True)),
            _idle_windows(replayed)[kept],
            {node: cores[kept] for node, cores in accounts.cores.items()},
            None if accounts.probe_us is None else accounts.probe_us[kept],
        )


def demands(runs: Sequence[Measured], prior: Calibration, *, together: bool = False,
            ) -> tuple[dict[str, UnitCost], dict[str, float], dict[str, Exponent], dict[str, Any]]:
    """Return (units, background cores, exponents, diagnostics by node) from the windows of runs on one machine.

    All CPU of a listed process that the model does not have (the runner, the supervisor) becomes background.
    `together`: fit one factor for all units of a process. Diagnostics by window are those of the first run.
    """
    first = runs[0]
    idle = np.concatenate([run.idle for run in runs])
    units, background = dict(prior.units), dict.fromkeys(services.WIDTHS, 0.0)
    fits: dict[str, _NodeFit] = {}
    alike = {unit for group in ALIKE for unit in group}
    counted_units = dict.fromkeys(unit for run in runs for unit in run.work)
    for node in first.cores:
        measured = np.concatenate([run.cores.get(node, np.zeros(len(run.spans))) for run in runs])
        own = [unit for unit in counted_units if unit.startswith(f"{node}.")]
        if not own or len(measured) < 5:
            background[node] = float(np.median(measured)) if len(measured) else 0.0
            continue
        names = _columns(own, prior)
        design = np.vstack([_design(names, run, prior) for run in runs])
        exponent, spread = EXPONENTS.get(node, OTHER)
        if together and node in prior.exponents:
            exponent, spread = prior.exponents[node].exponent, QUICK_SPREAD
        columns = design.sum(axis=1)[:, None] if together else design
        background[node] = prior.background_cores.get(node, 0.0)
        if idle.any():
            background[node] = _idle_cores(columns, measured, idle, exponent, spread)
        spreads = demand.PRIOR_SPREAD if together else np.asarray(
            [AUDIENCE_SPREAD if part == "both" else ALIKE_SPREAD if unit in alike else demand.PRIOR_SPREAD
             for unit, part in names])
        fits[node] = _NodeFit(own, names, columns, measured, demand.Prior(background[node], exponent, spread, spreads))
    known = [run.probed_us for run in runs if run.probed_us is not None]
    probed = np.concatenate(known) if len(known) == len(runs) else None
    slow = _slowness(fits, probed)
    exponents, diagnostics = dict[str, Exponent](), dict[str, Any]()
    for node, one in fits.items():
        fitted = one.fit(slow)
        factor = float(fitted.factors[0])
        units |= _scaled(one.units, fitted, prior) if together else _costs(one.units, one.names, fitted, prior)
        exponents[node] = _exponent(fitted, prior.exponents.get(node) if together else None, factor)
        diagnostics[node] = {
            "windows": fitted.windows,
            "condition": round(fitted.condition, 2),
            "residual": round(fitted.residual, 4),
            "mean_cores": round(float(one.measured.mean()), 5),
        }
    slowness = [[start, end, round(float(value), 4)] for (start, end), value in zip(first.spans, slow, strict=False)]
    found: dict[str, Any] = {"cpu": diagnostics, "slowness": slowness}
    if probed is not None:
        found["probe_us"] = float(np.median(probed[: len(first.spans)]))
    return units, background, exponents, found


@dataclass(frozen=True)
class _NodeFit:
    """What the fit of one process starts from; see `demand.fit`."""

    units: list[str]
    names: list[tuple[str, str]]
    design: NDArray[np.float64]
    measured: NDArray[np.float64]
    prior: demand.Prior

    def fit(self, slow: NDArray[np.float64], resamples: int = demand.RESAMPLES) -> demand.Fitted:
        """Fit to the CPU that the machine would have used at its median speed."""
        idle = self.prior.idle_cores
        return demand.fit(self.design, idle + np.maximum(self.measured - idle, 0.0) / slow, self.prior, resamples=resamples)


def _slowness(fits: Mapping[str, _NodeFit], probed: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the slowness of each window: what the speed probe and the residuals of all steady processes have in common."""
    steady = {node: one for node, one in fits.items() if node in services.EVENT_LOOPS or node == services.HAPROXY}
    slow = np.ones(len(next(iter(steady.values())).measured))
    for _ in range(SPEED_ROUNDS):
        expected = {node: one.fit(slow, resamples=0).cores(one.design, 0.0) for node, one in steady.items()}
        measured = {node: np.maximum(one.measured - one.prior.idle_cores, 0.0) for node, one in steady.items()}
        slow = speed.slowness(measured, expected, probed)
    return slow


def _idle_cores(design: NDArray[np.float64], measured: NDArray[np.float64], idle: NDArray[np.bool_], exponent: float,
                spread: float) -> float:
    """Return the CPU in the idle windows less that of the few requests and probes in them."""
    cores = float(measured[idle].mean())
    for _ in range(IDLE_ROUNDS):
        fitted = demand.fit(design, measured, demand.Prior(cores, exponent, spread), resamples=0)
        cores = max(0.0, float((measured - fitted.cores(design, 0.0))[idle].mean()))
    return cores


def _exponent(fitted: demand.Fitted, ladder: Exponent | None, factor: float) -> Exponent:
    """Return the exponent of a fit. `ladder`: what a wider ladder has measured, whose range then holds, times `factor`."""
    lowest, highest = fitted.lowest, fitted.highest
    if ladder is not None:
        lowest, highest = min(lowest, ladder.lowest * factor), max(highest, ladder.highest * factor)
    return Exponent(round(fitted.exponent, 3), round(fitted.reference, 6), round(lowest, 6), round(highest, 6),
                    round(fitted.exponent_low, 3), round(fitted.exponent_high, 3))


def _audience_cost(unit: str, column: int, fitted: demand.Fitted) -> UnitCost:
    base_us, item_us = AUDIENCE[unit]
    factor, low, high = (float(one[column]) for one in (fitted.factors, fitted.low, fitted.high))
    return UnitCost(round(base_us * factor, 3), round(item_us * factor, 4), round(base_us * low, 3), round(base_us * high, 3),
                    False, f"the bench's fan-out row, times {factor:.3f}")


def _scaled(units: list[str], fitted: demand.Fitted, prior: Calibration) -> dict[str, UnitCost]:
    """Return the units of a process, all times its factor."""
    factor, low, high = (float(one[0]) for one in (fitted.factors, fitted.low, fitted.high))
    return {unit: dataclasses.replace(cost, base_us=round(cost.base_us * factor, 3),
                                      per_item_us=round(cost.per_item_us * factor, 4),
                                      low_us=round(cost.low_us * low, 3), high_us=round(cost.high_us * high, 3),
                                      source=f"ratio of the full calibration, times {factor:.3f} for its process")
            for unit in units for cost in (prior.units[unit],)}


def _idle_windows(replayed: Replayed) -> NDArray[np.bool_]:
    stages = replayed.scenario.workload.stages
    quiet = {number for number, stage in enumerate(stages) if max(stage.rate_from, stage.rate_to) < IDLE_BELOW}
    return np.asarray([bool(closed) and int(stage) in quiet
                       for stage, closed in zip(replayed.accounts.stage, replayed.accounts.closed, strict=True)])


def _columns(units: list[str], prior: Calibration) -> list[tuple[str, str]]:
    """Return (unit, part) of each column of the design.

    A unit with a cost per item has two columns, so that a and b of a + b * n are separate.
    """
    names: list[tuple[str, str]] = []
    for unit in units:
        cost = prior.units[unit]
        if unit in AUDIENCE:
            names.append((unit, "both"))
        else:
            names += [(unit, part) for part, price_us in (("base", cost.base_us), ("item", cost.per_item_us)) if price_us > 0.0]
    return names


def _design(names: list[tuple[str, str]], run: Measured, prior: Calibration) -> NDArray[np.float64]:
    """Return the cores that the prior expects in each window of a run, shape (windows, columns)."""
    columns = []
    for unit, part in names:
        counts, sizes = (demand.work_in(run.spans, by_second) for by_second in run.work.get(unit, ((0.0,), (0.0,))))
        base_us, item_us = AUDIENCE.get(unit, (prior.units[unit].base_us, prior.units[unit].per_item_us))
        expected = {"base": counts * base_us, "item": sizes * item_us, "both": counts * base_us + sizes * item_us}
        columns.append(expected[part] * 1e-6)
    return np.column_stack(columns)


def _costs(
    units: list[str], names: list[tuple[str, str]], fitted: demand.Fitted, prior: Calibration
) -> dict[str, UnitCost]:
    costs = {}
    place = {name: index for index, name in enumerate(names)}
    for unit in units:
        both = place.get((unit, "both"))
        if both is not None:
            costs[unit] = _audience_cost(unit, both, fitted)
            continue
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
