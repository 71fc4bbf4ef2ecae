"""The recovery figures of two sides of repeated runs: reported, but not tested for significance.

Faults are matched by their position in the run, since the zone with the primary differs from run to run. A run
that did not recover, or whose RTO was not reached, counts as longer than any other; if that is the median, there
is no value.
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
    """One figure of one fault. `a`, `b`: of the two sides, None if unknown. `n`: runs per side that have it.

    `recovered`: share of the runs. `time to recovery`, `RTO`: median, s. `lost tweets` and others: sum over the
    runs.
    """

    fault: str
    figure: str
    a: float | None
    b: float | None
    n: tuple[int, int]


def figures(a: Sequence[record.Run], b: Sequence[record.Run]) -> list[Figure]:
    """Return the figures that either side has, ordered by fault."""
    side_a, side_b = _values(a), _values(b)
    return [
        _figure(pair, side_a.get(pair, []), side_b.get(pair, []))
        for pair in dict.fromkeys([*side_a, *side_b])
    ]


def _figure(pair: tuple[str, str], a: list[float], b: list[float]) -> Figure:
    fault, figure = pair
    return Figure(fault, figure, _aggregate(figure, a), _aggregate(figure, b), (len(a), len(b)))


def _values(runs: Iterable[record.Run]) -> dict[tuple[str, str], list[float]]:
    """Return (fault, figure) -> one value per run; infinity for a time that was not reached."""
    values: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for position, fault in enumerate(run.document.get("recovery", ()), start=1):
            for figure, value in _of_fault(fault).items():
                values.setdefault((f"{position}. {fault['kind']}", figure), []).append(value)
    return values


def _of_fault(fault: Mapping[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {}
    if fault["verdict"] in (verdict.PASS, verdict.FAIL):
        took_s = fault["time_to_recovery_s"]
        values["recovered"] = float(fault["verdict"] == verdict.PASS)
        values["time to recovery"] = math.inf if took_s is None else took_s
    if fault["rto_s"] is not None or fault["rto_at_least_s"] is not None:
        values["RTO"] = math.inf if fault["rto_s"] is None else fault["rto_s"]
    return values | {f"lost {kind}": float(counts["lost"]) for kind, counts in (fault["rpo"] or {}).items()}


def _aggregate(figure: str, values: list[float]) -> float | None:
    if not values:
        return None
    if figure.startswith("lost "):
        return sum(values)
    value = float(np.mean(values)) if figure == "recovered" else sorted(values)[len(values) // 2]
    return value if math.isfinite(value) else None


def lines(figures: Sequence[Figure]) -> list[str]:
    """Return the figures as the lines of a Markdown table; an empty list if there are none."""
    if not figures:
        return []
    rows = [
        f"| {row.fault} | {row.figure} | {_formatted(row, row.a)} | {_formatted(row, row.b)} "
        f"| {row.n[0]} and {row.n[1]} |"
        for row in figures
    ]
    return ["", "| fault | figure | A | B | runs |", "| --- | --- | --- | --- | --- |", *rows]


def _formatted(row: Figure, value: float | None) -> str:
    if value is None:
        return "–"
    if row.figure == "recovered":
        return f"{value:.0%}"
    return f"{value:.4g} s" if row.figure in SECONDS else f"{value:.0f}"


def document(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return the figures as plain JSON values."""
    return [{**asdict(row), "n": list(row.n)} for row in figures]
