"""Comparison of two sweeps, point by point: changed, not changed, or cannot tell.

Points with equal settings are compared in the asked figure of the first sweep, paired by replication: two predictions
with the same seed have the same arrivals. Intervals are simultaneous (Bonferroni over the points), so one of twenty points
that differs by luck is no change.

    changed       at some point the interval of the difference excludes 0
    not changed   at every point it includes 0 and is within ±5 % of the first sweep's figure
    cannot tell   anything else, or a point that only one of them has
"""

from __future__ import annotations

import math
import statistics as basic
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from system.kernel.errors import WrongInput
from tweetlab.sweep import asked, folder, statistics

SAME_WITHIN = 0.05
CHANGED, NOT_CHANGED, CANNOT_TELL = "changed", "not changed", "cannot tell"
Rows = Sequence[Mapping[str, Any]]
EXIT_OF = {NOT_CHANGED: 0, CHANGED: 1, CANNOT_TELL: 2}


def compare(first: Path, second: Path) -> dict[str, Any]:
    """Return the comparison as plain values, with `answer`, `rows`, `text` and `exit_code`.

    Raises WrongInput for sweeps of different settings, or of different kinds (twin and system).
    """
    a, b = folder.read(first), folder.read(second)
    _comparable(a, b)
    rows_a, rows_b = (_by_point(path, document) for path, document in ((first, a), (second, b)))
    shared = [key for key in rows_a if key in rows_b]
    figure = str(a["figure"])
    rows = [_row(key, rows_a[key], rows_b[key], figure, len(shared)) for key in shared]
    answer = _answer(rows, complete=len(shared) == len(rows_a) == len(rows_b))
    lines = [f"{answer}: {figure}, {len(shared)} points, B against A"]
    unit = asked.unit(figure)
    for row in rows:
        if row["difference"] is None:
            lines.append(f"  {row['point']}: no value on one side")
        else:
            lines.append(f"  {row['point']}: {asked.number(row['a'])} -> {asked.number(row['b'])} {unit}, difference "
                         f"{asked.number(row['difference'])} ({asked.number(row['low'])} to {asked.number(row['high'])})")
    text = "\n".join(lines)
    return {"answer": answer, "figure": figure, "unit": unit, "rows": rows, "text": text, "markdown": text,
            "exit_code": EXIT_OF[answer]}


def _comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    keys_a, keys_b = ([one["path"] for one in document["over"]] for document in (a, b))
    if keys_a != keys_b:
        raise WrongInput(f"The sweeps vary different settings ({', '.join(keys_a)} and {', '.join(keys_b)}); compare sweeps of "
                         "the same settings.")
    if a["on"] != "twin" or b["on"] != "twin":
        raise WrongInput("A sweep on the system has runs that are not paired; compare its runs instead: "
                         "`tweetlab compare RUN RUN`.")
    if a["seed"] != b["seed"]:
        raise WrongInput(f"The sweeps have the seeds {a['seed']} and {b['seed']}, so their arrivals differ; repeat one with "
                         f"--set seed={a['seed']}.")


def _by_point(path: Path, document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    names = {point["number"]: " ".join(f"{key}={value}" for key, value in point["values"].items())
             for point in document["points"]}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for row in folder.Folder(path).rows():
        found[names[row["point"]]].append(row)
    return {name: rows for name, rows in found.items() if rows}


def _row(point: str, first: Rows, second: Rows, figure: str, points: int) -> dict[str, Any]:
    pairs = {row["replication"]: asked.value(row, figure) for row in first}
    both = [(pairs[row["replication"]], asked.value(row, figure)) for row in second if pairs.get(row["replication"]) is not None]
    gaps = [value - base for base, value in both if base is not None and value is not None]
    if len(gaps) < 2:
        return {"point": point, "a": None, "b": None, "difference": None, "low": None, "high": None, "pairs": len(gaps)}
    mean = basic.fmean(gaps)
    half = statistics.t_quantile(len(gaps) - 1, 1.0 - (1.0 - statistics.CONFIDENCE) / max(points, 1)) * basic.stdev(gaps)
    half /= math.sqrt(len(gaps))
    base = basic.fmean(value for value, _ in both if value is not None)
    return {"point": point, "a": base, "b": base + mean, "difference": mean, "low": mean - half, "high": mean + half,
            "pairs": len(gaps)}


def _answer(rows: Sequence[Mapping[str, Any]], complete: bool) -> str:
    known = [row for row in rows if row["difference"] is not None]
    if any(not row["low"] <= 0.0 <= row["high"] for row in known):
        return CHANGED
    narrow = all(max(abs(row["low"]), abs(row["high"])) <= SAME_WITHIN * abs(row["a"]) for row in known)
    return NOT_CHANGED if known and narrow and complete and len(known) == len(rows) else CANNOT_TELL
