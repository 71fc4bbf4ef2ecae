"""Did it change? Two sides of repeated runs, three answers: changed, not changed, cannot tell.

    changed       the middle or the spread of a route's latency differs beyond chance (Holm over all tests, 5 %)
    not changed   nothing differs, and every interval lies within ±5 % (median) and ±15 % (spread)
    cannot tell   anything else: fewer than five runs a side, repeats not interleaved, intervals too wide

Two tests a route: `median` (p50) and `spread` (p99 / p50): one run in three that turns slow moves the spread
where the median stands still. Runs of different machines or data are refused: their difference has a
reason that no statistic can see. Void runs are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reports import columns, compare_recovery, effects, operations, record, verdict
from reports.view import View
from system.kernel import errors

CHANGED, NOT_CHANGED, CANNOT_TELL = "changed", "not changed", "cannot tell"
MIN_RUNS = 5  # a side; Welch's t of fewer has intervals that decide nothing
MIN_OPERATIONS = 500  # per route and run; p99 of fewer is the noise of five values
SAME_WITHIN = {"median": 0.05, "spread": 0.15}  # what is tested, and the effect too small to matter; p99 is noisier
MEASURES = ("median", "spread", "p95", "p99", "cpu per operation")
SAME_HOST = ("cpu_model", "cores", "mem_mib")


@dataclass(frozen=True)
class Row:
    """One measure of one route: B against A. `differs` only for what was tested; None = shown, not tested."""

    route: str
    measure: str
    a: float
    b: float
    effect: effects.Effect
    differs: bool | None


@dataclass(frozen=True)
class Comparison:
    """The answer, the sentence that explains it, the rows behind it, and figures of recovery."""

    answer: str
    reason: str
    runs: tuple[int, int]
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    recovery: tuple[compare_recovery.Figure, ...] = ()


Sample = Mapping[str, Mapping[str, effects.Measured]]  # route -> measure -> value on the log scale


def compare(a: Sequence[record.Run], b: Sequence[record.Run]) -> Comparison:
    """Compare the runs of two sides. Raises WrongInput for runs of different machines, data or kinds, and for a
    run that stands on both sides."""
    refuse_strangers([*a, *b])
    if {run.run_id for run in a} & {run.run_id for run in b}:
        raise errors.WrongInput("a run stands on both sides; name the repeats of A and of B apart.")
    good_a, good_b = _trusted(a), _trusted(b)
    notes = [*_notes(a, b, good_a, good_b)]
    recovery = tuple(compare_recovery.figures(good_a, good_b))
    reason = _too_little(good_a, good_b)
    if reason:
        return Comparison(CANNOT_TELL, reason, (len(good_a), len(good_b)), (), tuple(notes), recovery)
    answer = decide([sample(run) for run in good_a], [sample(run) for run in good_b])
    return Comparison(answer.answer, answer.reason, answer.runs, answer.rows, tuple(notes), recovery)


def refuse_strangers(runs: Sequence[record.Run]) -> None:
    """Raise WrongInput naming the first fact that differs between the runs' machines, data or kinds."""
    if not runs:
        raise errors.WrongInput("no runs to compare; name at least five repeats a side.")
    for name in ("kind", "machine", "data"):
        told = {_identity(run, name): run.run_id for run in runs}
        if len(told) > 1:
            (first, one), (second, other) = list(told.items())[:2]
            raise errors.WrongInput(
                f"the runs differ in their {name}: {one} has {first}, {other} has {second}: "
                f"compare only runs of one {name}: repeat one of the sides."
            )


def _identity(run: record.Run, name: str) -> str:
    if name == "kind":
        return run.kind
    if name == "machine":
        return ", ".join(str(run.document["host"].get(key)) for key in SAME_HOST)
    population = run.document["population"]
    return str(population.get("fingerprint") or population.get("sha256") or dict(population))


def _trusted(runs: Sequence[record.Run]) -> list[record.Run]:
    return [run for run in runs if run.document["validity"]["verdict"] != verdict.VOID]


def _notes(
    a: Sequence[record.Run], b: Sequence[record.Run], good_a: list[record.Run], good_b: list[record.Run]
) -> list[str]:
    left_out = len(a) + len(b) - len(good_a) - len(good_b)
    notes = [f"{left_out} void runs were left out"] if left_out else []
    for label, key in (("commits", "commit"), ("versions", "versions"), ("seeds", "seed")):
        sides = [{str(run.document[key]) for run in side} for side in (a, b)]
        if sides[0] != sides[1]:
            notes.append(f"{label} differ between the sides")
    return notes


def _too_little(a: list[record.Run], b: list[record.Run]) -> str:
    if min(len(a), len(b)) < MIN_RUNS:
        return f"{len(a)} and {len(b)} valid runs; {MIN_RUNS} interleaved repeats a side are needed: add --repeat {MIN_RUNS}."
    if not interleaved([run.document["started_at"] for run in a], [run.document["started_at"] for run in b]):
        return "the repeats are not interleaved, so the machine's drift and the change cannot be told apart: run A, B, A, B, ..."
    return ""


def interleaved(a_at: Sequence[str], b_at: Sequence[str]) -> bool:
    """Whether, in order of time, neither side is ever more than two runs ahead of the other."""
    order = sorted([(at, 1) for at in a_at] + [(at, -1) for at in b_at])
    ahead = np.cumsum([step for _, step in order])
    return bool(np.all(np.abs(ahead) <= 2))


def sample(run: record.Run) -> dict[str, dict[str, effects.Measured]]:
    """The measures of one run, steady time, by route (routes with too few operations are left out)."""
    view = View(run)
    done = view.done
    calm = done[operations.inside(done["due_s"].to_numpy(), operations.steady(view.windows))]
    good = calm[(calm["outcome"] == columns.OK) & (calm["response_ms"] > 0)]
    found = {}
    for route, rows in good.groupby("route"):
        if len(rows) >= MIN_OPERATIONS:
            found[str(route)] = latencies(rows["response_ms"].to_numpy(), rows["due_s"].to_numpy())
    core_s = sum(one["core_s"] for one in run.summary["cpu"].values())
    done_n = run.summary["totals"]["ok"]
    if core_s and done_n:
        found["all"] = {"cpu per operation": effects.Measured(math.log(core_s / done_n * 1000), 0.0)}
    return found


def latencies(response_ms: effects.Floats, due_s: effects.Floats) -> dict[str, effects.Measured]:
    """The measures of one route of one run, each with its error within the run."""
    quantiles = (0.5, 0.95, 0.99)
    values = np.log(np.sort(response_ms))
    exact = [float(values[max(0, math.ceil(round(q * len(values), 9)) - 1)]) for q in quantiles]
    drawn = effects.bootstrap_quantiles(response_ms, due_s, quantiles)
    p50, p95, p99 = drawn[:, 0], drawn[:, 1], drawn[:, 2]
    return {
        "median": effects.Measured(exact[0], float(p50.std())),
        "spread": effects.Measured(exact[2] - exact[0], float((p99 - p50).std())),
        "p95": effects.Measured(exact[1], float(p95.std())),
        "p99": effects.Measured(exact[2], float(p99.std())),
    }


def decide(a: Sequence[Sample], b: Sequence[Sample]) -> Comparison:
    """The answer from the samples of two sides, at least two runs each. Routes that a run lacks are left out."""
    routes = [route for route in a[0] if all(route in one for one in (*a, *b))]
    pairs = [(route, measure) for route in routes for measure in MEASURES if measure in a[0][route]]
    made = {pair: _row(pair, a, b) for pair in pairs}
    tested = [pair for pair in pairs if pair[1] in SAME_WITHIN]
    if not tested:
        reason = f"no route has {MIN_OPERATIONS} OK operations in steady time in every run: run longer."
        return Comparison(CANNOT_TELL, reason, (len(a), len(b)), tuple(made.values()))
    differs = dict(zip(tested, effects.holm([made[pair].effect.p for pair in tested]), strict=True))
    rows = tuple(
        Row(row.route, row.measure, row.a, row.b, row.effect, differs.get(pair)) for pair, row in made.items()
    )
    answer, reason = _answer([row for row in rows if row.differs is not None])
    return Comparison(answer, reason, (len(a), len(b)), rows)


def _row(pair: tuple[str, str], a: Sequence[Sample], b: Sequence[Sample]) -> Row:
    route, measure = pair
    side_a, side_b = [one[route][measure] for one in a], [one[route][measure] for one in b]
    middle = [math.exp(float(np.median([one.value for one in side]))) for side in (side_a, side_b)]
    return Row(route, measure, middle[0], middle[1], effects.effect(side_a, side_b), None)


def _answer(tested: list[Row]) -> tuple[str, str]:
    moved = [row for row in tested if row.differs]
    if moved:
        row = max(moved, key=lambda each: abs(math.log1p(each.effect.change)))
        return CHANGED, f"{row.route} {row.measure} {told(row.effect)}."
    wide = [row for row in tested if max(abs(row.effect.low), abs(row.effect.high)) > SAME_WITHIN[row.measure]]
    if not wide:
        within = " and ".join(f"±{bound:.0%} ({measure})" for measure, bound in SAME_WITHIN.items())
        return NOT_CHANGED, f"every tested effect lies within {within}, with its whole interval."
    row = max(wide, key=lambda each: each.effect.high - each.effect.low)
    return CANNOT_TELL, f"no difference beyond chance, but {row.route} {row.measure} could be {told(row.effect)}: add repeats."


def told(found: effects.Effect) -> str:
    """An effect in words: +12.3 % (95 %: +8.1 % to +16.7 %)."""
    return f"{found.change:+.1%} (95 %: {found.low:+.1%} to {found.high:+.1%})"


def text(comparison: Comparison) -> str:
    """The comparison as Markdown."""
    lines = [f"**{comparison.answer}**: {comparison.reason} ({comparison.runs[0]} and {comparison.runs[1]} runs)", ""]
    lines += [f"- note: {note}" for note in comparison.notes]
    if comparison.rows:
        lines += ["| route | measure | A | B | B against A | differs |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [_line(row) for row in comparison.rows]
    lines += compare_recovery.lines(comparison.recovery)
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    unit = {"spread": "×", "cpu per operation": " ms"}.get(row.measure, " ms")
    word = {True: "yes", False: "no", None: "not tested"}[row.differs]
    return f"| {row.route} | {row.measure} | {row.a:.4g}{unit} | {row.b:.4g}{unit} | {told(row.effect)} | {word} |"


def document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain JSON values."""
    return {
        "answer": comparison.answer,
        "reason": comparison.reason,
        "runs": list(comparison.runs),
        "notes": list(comparison.notes),
        "recovery": compare_recovery.document(comparison.recovery),
        "rows": [
            {"route": row.route, "measure": row.measure, "a": row.a, "b": row.b, "change": row.effect.change,
             "low": row.effect.low, "high": row.effect.high, "p": row.effect.p, "differs": row.differs}
            for row in comparison.rows
        ],
    }  # fmt: skip
