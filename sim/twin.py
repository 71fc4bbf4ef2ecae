"""Entry point of the twin: from scenario, calibration, tape and graph to the facts of a run.

`run` plays the tape of the real run several times (replications) with costs that are lower and higher by what the
calibration does not know, and records the middle one; the range of all replications is the prediction's interval.
The queueing laws
(Little, utilisation, flow balance) are checked on every station of every replication and stored in the
record.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from reports import facts
from reports.stats import histogram
from scenarios import spec, vocabulary, workload
from scenarios.world import population, seeded_tweets
from sim import demand, faults, outcome, theory
from sim.calibration import Calibration
from sim.replication import DEFAULT, Played, Replication
from sim.speed import MachineSpeed
from sim.state import Seeded

REPLICATIONS = 5
LAW_TOLERANCE = 0.01
BEYOND_S = 2.0      # above it for less is no reason for a remark
NOT_KEPT_UP = 0.98  # share of the operations that end within the load
NEAR_CAPACITY = 0.15

Progress = Callable[[int, int], None]
"""Called with (replications done, total replications)."""


@dataclass(frozen=True)
class Prediction:
    """Result of the twin.

    `facts`: of the recorded replication, for `reports`. `intervals`: route -> percentile -> (low, high), ms, steady
    part: the range of the replications, which covers about 80 % with five. `in_sample`: the calibration comes from
    the run that is predicted. `took_s`: wall time of all replications. `remarks`: sentences about its range.
    """

    facts: facts.Facts
    label: str
    in_sample: bool
    calibration: Mapping[str, Any]
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    laws: Mapping[str, Any]
    took_s: float
    remarks: tuple[str, ...] = ()


def run(
    scenario: spec.Scenario,
    calibration: Calibration,
    tape: workload.Tape,
    graph: population.Graph,
    *,
    past: seeded_tweets.History | None = None,
    replications: int = REPLICATIONS,
    progress: Progress | None = None,
    scored_run: str = "",
    machine: MachineSpeed | None = None,
    engine: str = DEFAULT,
) -> Prediction:
    """Predict `scenario`. `scored_run`: id of the run that the prediction will be compared with, if any.
    `past`: the seeded tweets; None draws them again. `machine`: its speed during that run; None: as it was calibrated.
    `engine`: a word of `sim.replication.ENGINES`.

    Raises UnknownStep if the scenario needs something that the model or the calibration does not have.
    """
    start_s = time.perf_counter()
    seeded = Seeded.of(scenario, graph, past)
    count = max(1, replications)
    chosen = count // 2  # the one with the calibration's own costs
    summaries, gaps = [], []
    slowness = None if machine is None else machine.slowness
    if machine is not None:
        calibration = replace(calibration, core_speed=machine.core_speed)
    for index, factor in enumerate(factors(calibration, count)):
        costs = calibration.scaled(dict.fromkeys(calibration.nodes, factor))
        seed = scenario.seed + index
        played = Replication(scenario, costs, seeded, seed, slowness=slowness, engine=engine).play(tape)
        summaries.append(percentiles(played, scenario))
        gaps.append(laws(played))
        if index == chosen:
            recorded = played
        if progress is not None:
            progress(index + 1, max(1, replications))
    in_sample = bool(scored_run) and scored_run == calibration.in_sample_of
    checked_laws = merged_laws(gaps)
    took_s = time.perf_counter() - start_s
    intervals = _intervals(summaries)
    said = remarks(recorded, scenario, calibration, machine)
    notes = {
        "how": f"engine {engine}, one run queue for all cores",
        "calibration": calibration.brief(),
        "replications": {"n": count, "recorded": chosen, "intervals_ms": intervals},
        "laws": checked_laws,
        "warm_up_mser5_s": _warm_up_s(recorded),
        "scaling": outcome.scaling(recorded),
        "index_visible_s": outcome.index_visible_s(recorded),
        "remarks": said,
        "not_modelled": list(faults.NOT_OF_A_CLUSTER) if scenario.platform in vocabulary.ZONES else [],
        "took_s": round(took_s, 3),
    }
    return Prediction(
        facts=outcome.facts_of(recorded, scenario, tape, notes, calibration),
        label=calibration.label,
        in_sample=in_sample,
        calibration=calibration.brief(),
        intervals=intervals,
        laws=checked_laws,
        took_s=took_s,
        remarks=tuple(said),
    )


def factors(calibration: Calibration, count: int) -> list[float]:
    """Return one factor on all CPU per replication: evenly spaced quantiles of the calibration's own uncertainty.

    So the replications differ by the luck of the draw and by what the calibration does not know.
    """
    return [math.exp(calibration.spread * NormalDist().inv_cdf((index + 0.5) / count)) for index in range(count)]


def remarks(played: Played, scenario: spec.Scenario, calibration: Calibration, machine: MachineSpeed | None = None) -> list[str]:
    """Return sentences about the range in which the prediction holds."""
    found = []
    if machine is not None:
        found.append(f"The machine took {machine.mean:.2f} times the CPU of its calibration for the same work, as the speed "
                     "probe of the run says; the prediction is for that speed.")
    for name, node in sorted(played.nodes.items()):
        law = node.amortization
        if law is not None and law.beyond_s >= BEYOND_S:
            times = law.most / law.highest * demand.BEYOND
            found.append(f"{name} is loaded up to {times:.1f} times as much as at the calibration's highest rung, for "
                         f"{law.beyond_s:.0f} s; its costs there are extrapolated.")
    load_s = scenario.workload.load_s
    one = played.attempts
    due = (one["attempt"] == 0) & (one.seconds("due") < load_s)
    done_s = one.seconds("done")[due]
    planned, finished = len(done_s), int(((done_s >= 0.0) & (done_s <= load_s)).sum())
    if planned and finished < NOT_KEPT_UP * planned:
        over = planned / max(finished, 1) - 1.0
        if over <= NEAR_CAPACITY:
            found.append(f"The predicted overload is only {over:.0%} above what the machine can do; the calibration is not "
                         "that exact.")
    return found


# ---- replications ----------------------------------------------------------------------------------------

def percentiles(played: Played, scenario: spec.Scenario) -> dict[str, dict[str, float]]:
    """Return route -> mean, p50, p95, p99 of the response (ms) of OK operations due after the warm-up."""
    warm_up_s = scenario.measure.warm_up_s
    one = played.attempts
    good = (one.seconds("due") >= warm_up_s) & (one["status"] == 200)
    routes, took_ms = one.route[good].astype(str), (one.seconds("done") - one.seconds("due"))[good] * 1000.0
    summary = {}
    for route in dict.fromkeys(routes.tolist()):
        ordered = np.sort(took_ms[routes == route])
        at = {name: ordered[histogram.rank(len(ordered), q) - 1] for name, q in QUANTILES.items()}
        summary[route] = {"mean": float(ordered.mean()), **{name: float(value) for name, value in at.items()}}
    return summary


QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def _intervals(summaries: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, tuple[float, float]]]:
    routes = sorted(set.intersection(*(set(one) for one in summaries))) if summaries else []
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    for route in routes:
        names = summaries[0][route]
        values = {name: [one[route][name] for one in summaries] for name in names}
        intervals[route] = {name: (round(min(one), 4), round(max(one), 4)) for name, one in values.items()}
    return intervals


def _warm_up_s(played: Played) -> float | None:
    """Return where MSER-5 cuts the home responses (s of the load); None with too few of them."""
    one = played.attempts
    home = (one.route == "home") & (one["status"] == 200) & (one["pages"] > 0)
    if home.sum() < 50:
        return None
    due_s = one.seconds("due")[home]
    return round(float(due_s[theory.mser5_cut(one.seconds("done")[home] - due_s)]), 3)


# ---- laws ------------------------------------------------------------------------------------------------

def laws(played: Played) -> dict[str, Any]:
    """Check every station against Little's law, flow balance and the utilisation law.

    Return the largest gap of each.

    Flow balance accounts for jobs still inside at the end; the tolerance covers their missing sojourn times.
    """
    little = flow = 0.0
    for node in played.nodes.values():
        tally = node.tally
        flow = max(flow, abs(tally.arrivals - tally.completions - tally.lost - tally.inside))
        if tally.completions >= 100 and not tally.inside:
            little = max(little, abs(tally.area_ns - tally.sojourn_ns) / tally.area_ns)
    host = played.engine.host
    work = sum(node.demand_ns for node in played.nodes.values())
    utilisation = abs(host.busy_ns - host.background_ns - work) / work if work else 0.0
    return {"little_gap": little, "flow_gap": flow, "utilisation_gap": utilisation}


def merged_laws(gaps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the largest gaps of all replications, and whether every law holds within one per cent."""
    worst = {name: max(one[name] for one in gaps) for name in gaps[0]}
    holds = worst["little_gap"] <= LAW_TOLERANCE and worst["flow_gap"] == 0 and worst["utilisation_gap"] <= LAW_TOLERANCE
    return {**{name: round(value, 6) for name, value in worst.items()}, "hold": holds}
