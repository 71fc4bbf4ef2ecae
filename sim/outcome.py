"""Converts a replication to the facts of a run, in the format that a real run passes to `reports`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from reports import facts
from reports.stats import histogram
from scenarios import spec, workload
from sim import outcomes, views
from sim.attempts import Attempts, texts
from sim.calibration import Calibration
from sim.replication import CREATES, Played
from sim.streams import NS
from system.kernel import events

READS = ("home", "user_tweets")
START_NS = 1_000_000_000  # simulated clock at the start of load; 0 would mean "did not happen"


def _ns(seconds: float) -> int:
    return START_NS + round(seconds * 1e9)


def history(played: Played) -> pd.DataFrame:
    """Return one row per attempt (second pages are operations of their own), as the real driver writes them."""
    nulls = _rows(played.null_attempts)
    nulls["op"] += 2 * len(played.attempts)
    nulls["page_ids"] = None
    return pd.concat([_rows(played.attempts), nulls], ignore_index=True)


def _rows(one: Attempts) -> pd.DataFrame:
    done, status = one["done_ns"], one["status"]
    outcome = _mapped(status, outcomes.of_status)
    outcome[done < 0] = outcomes.INFO
    good = outcome == outcomes.OK
    creates, reads = good & one.of(*CREATES), good & one.of(*READS)
    pages = np.full(len(one), None, dtype=object)
    pages[reads] = one.pages(reads)
    hops = {f"{hop}_us": np.where(good & (one[f"{hop}_ns"] > 0), one[f"{hop}_ns"] / 1e3, math.nan)
            for hop in ("gateway", "service", "store")}
    return pd.DataFrame({
        "op": one["index"].copy(),
        "attempt": one["attempt"],
        "retry_of": np.where(one["attempt"] > 0, one["index"], -1),
        "route": one.route,
        "user": one["user"],
        "due_ns": one["due_ns"] + START_NS,
        "sent_ns": np.where(one["sent_ns"] >= 0, one["sent_ns"] + START_NS, 0),
        "done_ns": np.where(done >= 0, done + START_NS, 0),
        "outcome": outcome,
        "status": np.where(creates, 201, _mapped(status, outcomes.as_seen).astype(np.int64)),
        "error": np.where(good, "", _mapped(status, lambda one: f"HTTP {outcomes.as_seen(one)}")),
        "tweet_id": np.where(creates, one["tweet"], 0),
        "target": one["target"],
        "page_ids": pages,
        "cursor_in": np.where(one["pages"] > 0, "", "next"),
        "source": np.where(good, one.source, ""),
        **hops,
    })  # fmt: skip


def _mapped(values: np.ndarray, function: Callable[[int], Any]) -> np.ndarray:
    """Return the function of each value, called once for each that occurs."""
    known, at = np.unique(values, return_inverse=True)
    return texts([function(int(one)) for one in known])[at]


def series(played: Played, load_s: float, background: Mapping[str, float]) -> pd.DataFrame:
    """Return CPU cores per second by node, background included, and their sum as the host's busy cores."""
    seconds = np.arange(math.ceil(load_s), dtype=np.float64)
    frames = []
    total = np.zeros(len(seconds))
    for name, node in sorted(played.nodes.items()):
        used = np.zeros(len(seconds))
        known = np.asarray(node.cpu_ns[: len(seconds)]) / NS
        used[: len(known)] = known
        used += background.get(name, 0.0)
        total += used
        frames.append(_frame(seconds, "cpu_cores", name, used))
    for name in sorted(set(background) - set(played.nodes)):
        used = np.full(len(seconds), background[name])
        total += used
        frames.append(_frame(seconds, "cpu_cores", name, used))
    return pd.concat([*frames, _frame(seconds, "host_busy_cores", "", total), *_instances(played, load_s)], ignore_index=True)


def _instances(played: Played, load_s: float) -> list[pd.DataFrame]:
    """Return the number of instances of each service by second, as the sampler of a real run.

    Empty without autoscaling.
    """
    by_kind: dict[str, list[tuple[float, int]]] = {}
    for t_s, kind, count in played.autoscaler.counts:
        if t_s < load_s:
            by_kind.setdefault(kind, []).append((t_s, count))
    return [_frame(np.asarray([t for t, _ in rows]), "instances", kind, np.asarray([float(n) for _, n in rows]))
            for kind, rows in sorted(by_kind.items())]


def _frame(t_s: np.ndarray, name: str, node: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"t_s": t_s, "name": name, "route": "", "node": node, "value": values})


def scaling(played: Played) -> list[str]:
    """Return the autoscaler's decisions as lines: second of the run, service, change and reason."""
    return [f"{t_s:.1f} s {kind}: {change}: {reason}" for t_s, kind, change, reason in played.autoscaler.decisions]


def index_visible_s(played: Played) -> dict[str, float] | None:
    """Return n, p50 and p99 of the time until a tweet can be found (s); None without tweets."""
    acked = played.attempts.acknowledged(played.attempts.of(*CREATES))
    rows = [row for row in played.effects if row.path == "index" and row.event == events.NEW_TWEET and row.key in acked]
    if not rows:
        return None
    took = np.sort([max(0.0, views.visible_s(row.at_s) - acked[row.key]) for row in rows])
    at = {name: float(took[histogram.rank(len(took), q) - 1]) for name, q in (("p50", 0.5), ("p99", 0.99))}
    return {"n": len(took), **{name: round(value, 4) for name, value in at.items()}}


def effects(played: Played, start_wall_ms: int) -> pd.DataFrame:
    """Return the workers' effect log."""
    return pd.DataFrame(
        [
            {
                "group": row.group,
                "event": row.key,
                "key": "0",
                "kind": row.event,
                "applied": True,
                "path": row.path,
                "targets": row.targets,
                "at_ns": _ns(row.at_s),
                "wall_ms": start_wall_ms + round(row.at_s * 1000),
            }
            for row in played.effects
        ],
        columns=["group", "event", "key", "kind", "applied", "path", "targets", "at_ns", "wall_ms"],
    )


def probed(played: Played) -> pd.DataFrame:
    """Return the results of the delivery probes."""
    rows = [
        {
            "tweet_id": row.tweet,
            "follower": row.follower,
            "seen_ns": _ns(row.seen_s) if row.seen_s >= 0.0 else 0,
            "gap_ns": round(row.gap_s * 1e9),
        }
        for row in played.probes
    ]
    return pd.DataFrame(rows, columns=["tweet_id", "follower", "seen_ns", "gap_ns"])


def facts_of(
    played: Played, scenario: spec.Scenario, tape: workload.Tape, notes: Mapping[str, Any], calibration: Calibration
) -> facts.Facts:
    """Return the facts from which `reports` writes the twin's record."""
    load_s = scenario.workload.load_s
    planned = _planned(played, tape)
    start_wall_ms = played.model.world.start_ms
    return facts.Facts(
        kind="twin",
        scenario=scenario.name,
        windows=facts.Windows(START_NS, scenario.measure.warm_up_s, load_s, _fault_windows(played, scenario), _stages(scenario)),
        history=history(played),
        series=series(played, load_s, calibration.background_cores),
        effects=effects(played, start_wall_ms),
        probes=probed(played),
        planned=planned,
        objectives=scenario.objectives,
        generator=facts.Generator(lost=0, smoke_ok=None),
        scenario_doc={
            "question": scenario.question,
            "expect": scenario.expect,
            "source": scenario.source,
            "resolved": scenario.resolved(),
        },
        seed=scenario.seed,
        platform={"how": "simulated", "cores": calibration.cores, "twin": dict(notes)},
        start_wall_ms=start_wall_ms,
    )


def _planned(played: Played, tape: workload.Tape) -> pd.DataFrame:
    """Return the tape and the second pages that readers requested, as the real driver counts them."""
    one = played.attempts
    second = (one["pages"] == 0) & (one["attempt"] == 0)
    return pd.DataFrame({"route": np.concatenate([texts(tape.routes)[tape.route], one.route[second]]),
                         "due_ns": np.concatenate([tape.due_ns, one["due_ns"][second]]) + START_NS})


def _fault_windows(played: Played, scenario: spec.Scenario) -> tuple[facts.FaultWindow, ...]:
    granted = facts.granted_s(scenario.objectives)
    within = {(fault.kind, fault.at_s): fault.recovers_within_s for fault in scenario.faults}
    return tuple(
        facts.FaultWindow(one.kind, one.target, one.start_s, one.end_s, one.recovered_s, granted_s=granted,
                          planned_end_s=one.start_s, recovers_within_s=within.get((one.kind, one.start_s)),
                          observed_until_s=scenario.workload.load_s)
        for one in played.faults
    )


def _stages(scenario: spec.Scenario) -> tuple[facts.Stage, ...]:
    stages, start_s = [], 0.0
    for stage in scenario.workload.stages:
        stages.append(facts.Stage(start_s, start_s + stage.for_s, stage.rate_from, stage.rate_to))
        start_s += stage.for_s
    return tuple(stages)


