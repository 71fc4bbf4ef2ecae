"""The recovery figures of two sides of repeated runs, side by side: shown, never tested.

Faults are matched by their place in the run, since the zone that holds the primary differs from run to run. A
run that did not recover, or whose RTO was not reached, counts as longer than any other; where that is the
median, there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from reports import record
from reports.judge import verdict

SECONDS = ("time to recovery", "RTO")


@dataclass(frozen=True)
class Figure:
    """One figure of one fault. `a`, `b`: of the two sides, None where unknown; `n`: runs a side that have it.

    `recovered`: share of the runs; `time to recovery`, `RTO`: median, s; `lost tweets` and others: sum over
    the runs.
    """

    fault: str
    figure: str
    a: float | None
    b: float | None
    n: tuple[int, int]


def figures(a: Sequence[record.Run], b: Sequence[record.Run]) -> list[Figure]:
    """Return the figures that either side has, fault by fault."""
    side_a, side_b = _values(a), _values(b)
    return [
        _figure(pair, side_a.get(pair, []), side_b.get(pair, []))
        for pair in dict.fromkeys([*side_a, *side_b])
    ]


def _figure(pair: tuple[str, str], a: list[float], b: list[float]) -> Figure:
    fault, figure = pair
    return Figure(fault, figure, _middle(figure, a), _middle(figure, b), (len(a), len(b)))


def _values(runs: Iterable[record.Run]) -> dict[tuple[str, str], list[float]]:
    """Return (fault, figure) -> one value a run; infinity where a time was not reached."""
    found: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for place, one in enumerate(run.document.get("recovery", ()), start=1):
            for figure, value in _of_fault(one).items():
                found.setdefault((f"{place}. {one['kind']}", figure), []).append(value)
    return found


def _of_fault(one: Mapping[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    if one["verdict"] in (verdict.PASS, verdict.FAIL):
        took_s = one["time_to_recovery_s"]
        values["recovered"] = float(one["verdict"] == verdict.PASS)
        values["time to recovery"] = math.inf if took_s is None else took_s
    if one["rto_s"] is not None or one["rto_at_least_s"] is not None:
        values["RTO"] = math.inf if one["rto_s"] is None else one["rto_s"]
    return values | {f"lost {kind}": float(counts["lost"]) for kind, counts in (one["rpo"] or {}).items()}


def _middle(figure: str, values: list[float]) -> float | None:
    if not values:
        return None
    if figure.startswith("lost "):
        return sum(values)
    value = float(np.mean(values)) if figure == "recovered" else sorted(values)[len(values) // 2]
    return value if math.isfinite(value) else None


def lines(found: Sequence[Figure]) -> list[str]:
    """Return the figures as a Markdown table; nothing where there are none."""
    if not found:
        return []
    rows = [
        f"| {one.fault} | {one.figure} | {_shown(one, one.a)} | {_shown(one, one.b)} "
        f"| {one.n[0]} and {one.n[1]} |"
        for one in found
    ]
    return ["", "| fault | figure | A | B | runs |", "| --- | --- | --- | --- | --- |", *rows]


def _shown(one: Figure, value: float | None) -> str:
    if value is None:
        return "–"
    if one.figure == "recovered":
        return f"{value:.0%}"
    return f"{value:.4g} s" if one.figure in SECONDS else f"{value:.0f}"


def document(found: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return the figures as plain JSON values."""
    return [{**asdict(one), "n": list(one.n)} for one in found]
