"""Questions of the kind "does X help?", drawn from a hash of the model: a setting, two values of it, and a load.

Both sides have the same users, tweets and arrivals. The system's answer is that of `reports.stats.compare` over five runs a
side, A B A B; the twin's is the same comparison over replications. A question **counts** where the system changed: the twin
must then say so, with the same sign, for the same figure. Where the system is known not to have changed, the twin must not say
that it did. Where the system cannot tell, nothing is judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.stats import compare
from scenarios import spec
from sim import delays
from sim.calibration import Calibration
from sim.validation import cells, draw, predict

SETTINGS: tuple[tuple[str, Any, Any], ...] = (
    ("fanout.push_limit", 300, 20),
    ("fanout.push_limit", 50, 3_000),
    ("timeline.rebuild_concurrency", 16, 1),
    ("bulkhead.service", 96, 2),
    ("coalesce.misses", 1, 0),
    ("cache.privacy_ttl_s", 2.0, 0.05),
    ("cache_loss", False, True),
    ("cpu_quota", None, 0.5),
    ("cpu_quota", None, 0.3),
)
"""Setting, and its values on the sides A and B. `cache_loss`: whether Redis is lost during the load."""
OF_A_LOSS = ("timeline.rebuild_concurrency", "coalesce.misses")
"""Settings that act on misses: both sides lose their cache."""
UTILIZATION = (0.2, 0.7)  # range of side A
STEADY_S = 25.0
LOSS_AT_S = draw.WARM_UP_S + 5.0
REPEATS = compare.MIN_RUNS  # runs a side
REPLICATIONS = 8  # of the twin, a side
ENOUGH, BAR = 20, 0.95
"""Questions that must count for a verdict, and the share of them whose sign must be right."""
RIGHT, WRONG, NOT_JUDGED = "right", "wrong", "not judged"


@dataclass(frozen=True)
class Question:
    """Does `setting` help, if it changes from `values[0]` to `values[1]`? `sides`: the scenarios A and B."""

    number: int
    setting: str
    values: tuple[Any, Any]
    mix: str
    sides: tuple[spec.Scenario, spec.Scenario]

    @property
    def text(self) -> str:
        """The question in words."""
        rate = self.sides[0].workload.stages[0].rate_from
        before, after = ("none" if value is None else value for value in self.values)
        return f"{self.setting} {before} -> {after}, {self.mix} at {rate:.0f}/s"


def question(number: int, calibration: Calibration) -> Question:
    """Return question `number` of this model, from 1. Takes some seconds: the rate is found by simulation."""
    random = np.random.default_rng([int(draw.identity(calibration), 16), number])
    setting, before, after = SETTINGS[int(random.integers(len(SETTINGS)))]
    mix = str(random.choice(sorted(draw.MIXES)))
    base = draw.at_utilization(draw.scenario(f"question_{number}", random, mix, STEADY_S), float(random.uniform(*UTILIZATION)),
                               calibration)
    if setting in OF_A_LOSS:
        base = _changed(base, "cache_loss", True)
    return Question(number, setting, (before, after), mix, (_changed(base, setting, before), _changed(base, setting, after)))


def _changed(scenario: spec.Scenario, setting: str, value: Any) -> spec.Scenario:
    if setting == "cache_loss":
        faults = (spec.Fault(LOSS_AT_S, "cache_loss", "redis"),) if value else ()
        return dataclasses.replace(scenario, faults=faults)
    if setting == "cpu_quota":
        return dataclasses.replace(scenario, cpu_quota=value)
    group, knob = setting.split(".")
    policies = scenario.policies
    knobs = dataclasses.replace(getattr(policies, group), **{knob: value})
    return dataclasses.replace(scenario, policies=dataclasses.replace(policies, **{group: knobs}))


# ---- answers ---------------------------------------------------------------------------------------------


def predicted(asked: Question, calibration: Calibration, replications: int = REPLICATIONS) -> dict[str, Any]:
    """Return the twin's answer."""
    sides = []
    for scenario in asked.sides:
        tables = [delays.table_of(one) for one in predict.replications(scenario, calibration, replications)]
        sides.append([_sample(cells.responses(table, predict.steady(scenario))) for table in tables])
    return as_json(compare.decide(*sides))


def _sample(responses: Mapping[str, tuple[cells.Floats, cells.Floats]]) -> dict[str, Any]:
    return {
        route: compare.latencies(np.maximum(took, 1e-6), due)
        for route, (due, took) in responses.items()
        if len(took) >= compare.MIN_OPERATIONS
    }


def as_json(comparison: compare.Comparison) -> dict[str, Any]:
    """Return what the ledger keeps of a comparison. `change`: B against A as ratio - 1. `differs`: significantly."""
    return {
        "answer": comparison.answer,
        "reason": comparison.reason,
        "rows": [
            {"route": row.route, "measure": row.measure, "change": round(row.effect.change, 4),
             "differs": bool(row.differs) and row.can_tell}
            for row in comparison.rows
            if row.differs is not None
        ],
    }  # fmt: skip


def judged(twin: Mapping[str, Any], system: Mapping[str, Any]) -> tuple[str, str]:
    """Return RIGHT, WRONG or NOT_JUDGED, and the figure that decided."""
    clear = {(row["route"], row["measure"]): row["change"] for row in twin["rows"] if _clear(row)}
    if system["answer"] == compare.CHANGED:
        row = max((row for row in system["rows"] if row["differs"]), key=lambda one: abs(np.log1p(one["change"])))
        figure = (row["route"], row["measure"])
        right = figure in clear and (clear[figure] > 0) == (row["change"] > 0)
        return RIGHT if right else WRONG, f"{figure[0]} {figure[1]}"
    if system["answer"] == compare.NOT_CHANGED:
        return (WRONG, " ".join(next(iter(clear)))) if clear else (RIGHT, "no clear difference")
    return NOT_JUDGED, ""


def _clear(row: Mapping[str, Any]) -> bool:
    return bool(row["differs"]) and abs(row["change"]) > float(compare.SAME_WITHIN[row["measure"]])


def summary(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return rows, counts and verdict of the questions in a ledger."""
    asked, rows = {}, []
    for entry in entries:
        if entry["type"] == "question":
            asked[entry["number"]] = entry
        elif entry["type"] == "answer":
            twin = asked[entry["number"]]["predicted"]
            result, figure = judged(twin, entry["measured"])
            rows.append({"number": entry["number"], "question": asked[entry["number"]]["question"], "result": result,
                         "figure": figure, "system": entry["measured"]["answer"], "system_why": entry["measured"]["reason"],
                         "twin": twin["answer"], "twin_why": twin["reason"]})  # fmt: skip
    counted = [row for row in rows if row["system"] == compare.CHANGED]
    right = sum(row["result"] == RIGHT for row in counted)
    unchanged = [row for row in rows if row["system"] == compare.NOT_CHANGED]
    share = right / len(counted) if counted else None
    enough = len(counted) >= ENOUGH
    return {
        "rows": rows, "counted": len(counted), "right": right, "share": share, "unchanged": len(unchanged),
        "unchanged_right": sum(row["result"] == RIGHT for row in unchanged), "needed": ENOUGH, "bar": BAR,
        "verdict": "unknown" if share is None or not enough else "holds" if share >= BAR else "misses",
    }  # fmt: skip
