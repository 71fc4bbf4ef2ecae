"""Did it change? Two sides of repeated runs, three answers: changed, not changed, cannot tell.

    changed       the middle or the spread of a route's latency differs beyond chance (Holm over all tests, 5 %)
    not changed   nothing differs, and every interval lies within ±5 % (median) and ±15 % (spread)
    cannot tell   anything else: fewer than five runs a side, repeats not interleaved, intervals too wide

A percentile covers every operation due, and one without a good answer is slower than any other (`over_due`):
a side that fails half of its reads has not become faster. Where a percentile falls among those, it is a lower
bound, shown as `> 12 s`: enough to see that a side became slower, never that it became faster or stayed.

Two tests a route: `median` (p50) and `spread` (p99 / p50): one run in three that turns slow moves the spread
where the median stands still. Runs of different machines or data are refused: their difference has a
reason that no statistic can see. Void runs are left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from reports import columns, operations, record
from reports.judge import over_due, refusals, verdict
from reports.page.view import View
from reports.stats import compare_recovery, effect_size, histogram
from scenarios import bounds
from system.kernel import errors

CHANGED, NOT_CHANGED, CANNOT_TELL = "changed", "not changed", "cannot tell"
MIN_RUNS = 5  # a side; Welch's t of fewer has intervals that decide nothing
MIN_OPERATIONS = 500  # per route and run; p99 of fewer is the noise of five values
# What is tested, and the effect too small to matter; p99 is noisier.
SAME_WITHIN = {"median": Decimal("0.05"), "spread": Decimal("0.15")}
QUANTILES = ("p50", "p95", "p99")
MEASURES = ("median", "spread", "p95", "p99", "cpu per operation")
SAME_HOST = ("cpu_model", "cores", "mem_mib")


@dataclass(frozen=True)
class Row:
    """One measure of one route: B against A. `differs` only for what was tested; None = shown, not tested.

    `beyond`: whether A's, B's figure is only a lower bound: it falls among operations without an answer in
    some run.
    """

    route: str
    measure: str
    a: float
    b: float
    effect: effect_size.Effect
    differs: bool | None
    beyond: tuple[bool, bool] = (False, False)

    @property
    def can_tell(self) -> bool:
        """Whether the figures decide: a lower bound can only show that its own side is the slower one."""
        slower = (False, True) if self.effect.change > 0 else (True, False)
        return self.beyond == (False, False) or (bool(self.differs) and self.beyond == slower)


@dataclass(frozen=True)
class Comparison:
    """The answer, the sentence that explains it, the rows behind it, and figures of recovery."""

    answer: str
    reason: str
    runs: tuple[int, int]
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    recovery: tuple[compare_recovery.Figure, ...] = ()


Sample = Mapping[str, Mapping[str, effect_size.Measured]]  # route -> measure -> value on the log scale


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


def sample(run: record.Run) -> dict[str, dict[str, effect_size.Measured]]:
    """The measures of one run, steady time, by route (routes with too few operations are left out)."""
    view = View(run)
    done = view.done
    calm = done[operations.inside(done["due_s"].to_numpy(), operations.steady(view.windows))]
    calm = calm[~refusals.mask(calm, run.document["scenario"])]
    end_ns = over_due.end_ns(view.windows, view.done["done_ns"])
    found = {}
    for route, rows in calm.groupby("route"):
        if len(rows) >= MIN_OPERATIONS:
            found[str(route)] = _of_route(rows, end_ns)
    core_s = sum(one["core_s"] for one in run.summary["cpu"].values())
    done_n = run.summary["totals"]["ok"]
    if core_s and done_n:
        found["all"] = {"cpu per operation": effect_size.Measured(math.log(core_s / done_n * 1000), 0.0)}
    return found


def _of_route(rows: pd.DataFrame, end_ns: int) -> dict[str, effect_size.Measured]:
    """The measures of the operations `rows` of one route, in order of time, answered or not."""
    answered, observed = over_due.split(rows, end_ns)
    good = ((rows["outcome"] == columns.OK) & (rows["response_ns"] >= 0)).to_numpy()
    waited_ns = np.empty(len(rows), dtype=np.int64)
    waited_ns[good], waited_ns[~good] = answered, over_due.ordered_last(answered, observed)
    return latencies(np.maximum(waited_ns, 1) / operations.NS_PER_MS, rows["due_s"].to_numpy(), good)


def latencies(
    response_ms: effect_size.Floats, due_s: effect_size.Floats, good: operations.Mask | None = None
) -> dict[str, effect_size.Measured]:
    """The measures of one route of one run, each with its error within the run; no spread where no median is
    known.

    `good`: shape (n,), which operations had a good answer; None: all. `response_ms` of the others is the time
    for which they were observed, at least the slowest good answer.
    """
    answered = np.ones(len(response_ms), dtype=np.bool_) if good is None else good
    exact = [over_due.quantile(name, response_ms[answered], response_ms[~answered]) for name in QUANTILES]
    p50, p95, p99 = (math.log(one.least) for one in exact)
    lost50, lost95, lost99 = (one.value is None for one in exact)
    drawn = effect_size.bootstrap_quantiles(response_ms, due_s, [histogram.QUANTILES[name] for name in QUANTILES])
    sd50, sd95, sd99 = (float(each) for each in drawn.std(axis=0))
    found = {
        "median": effect_size.Measured(p50, sd50, lost50),
        "spread": effect_size.Measured(p99 - p50, float((drawn[:, 2] - drawn[:, 0]).std()), lost99),
        "p95": effect_size.Measured(p95, sd95, lost95),
        "p99": effect_size.Measured(p99, sd99, lost99),
    }
    if lost50:
        del found["spread"]  # a ratio of two lower bounds is no bound
    return found


def decide(a: Sequence[Sample], b: Sequence[Sample]) -> Comparison:
    """The answer from the samples of two sides, at least two runs each. Routes that a run lacks are left out."""
    routes = [route for route in a[0] if all(route in one for one in (*a, *b))]
    pairs = [
        (route, measure)
        for route in routes
        for measure in MEASURES
        if all(measure in one[route] for one in (*a, *b))
    ]
    made = {pair: _row(pair, a, b) for pair in pairs}
    tested = [pair for pair in pairs if pair[1] in SAME_WITHIN]
    if not tested:
        reason = f"no route has {MIN_OPERATIONS} operations in steady time in every run: run longer."
        return Comparison(CANNOT_TELL, reason, (len(a), len(b)), tuple(made.values()))
    differs = dict(zip(tested, effect_size.holm([made[pair].effect.p for pair in tested]), strict=True))
    rows = tuple(dataclasses.replace(row, differs=differs.get(pair)) for pair, row in made.items())
    answer, reason = _answer([row for row in rows if row.differs is not None])
    return Comparison(answer, reason, (len(a), len(b)), rows)


def _row(pair: tuple[str, str], a: Sequence[Sample], b: Sequence[Sample]) -> Row:
    route, measure = pair
    side_a, side_b = [one[route][measure] for one in a], [one[route][measure] for one in b]
    middle = [math.exp(float(np.median([one.value for one in side]))) for side in (side_a, side_b)]
    beyond = any(one.beyond for one in side_a), any(one.beyond for one in side_b)
    return Row(route, measure, middle[0], middle[1], effect_size.effect(side_a, side_b), None, beyond)


def _answer(tested: list[Row]) -> tuple[str, str]:
    moved = [row for row in tested if row.differs and row.can_tell]
    if moved:
        row = max(moved, key=lambda each: abs(math.log1p(each.effect.change)))
        if True in row.beyond:
            side = "B" if row.beyond[1] else "A"
            why = f"of {side} it falls among operations without an answer"
            return CHANGED, f"{row.route} {row.measure} {row.effect.change:+.0%} or more: {why}."
        return CHANGED, f"{row.route} {row.measure} {told(row.effect)}."
    blind = [row for row in tested if not row.can_tell]
    if blind:
        figure = f"the {blind[0].measure} of {blind[0].route}"
        why = "falls among operations without an answer, so only a lower bound is known"
        return CANNOT_TELL, f"{figure} {why}: remove the failures, or run longer."
    wide = [row for row in tested if not _is_same(row)]
    if not wide:
        within = " and ".join(f"±{bound:.0%} ({measure})" for measure, bound in SAME_WITHIN.items())
        return NOT_CHANGED, f"every tested effect lies within {within}, with its whole interval."
    row = max(wide, key=lambda each: each.effect.high - each.effect.low)
    return CANNOT_TELL, f"no difference beyond chance, but {row.route} {row.measure} could be {told(row.effect)}: add repeats."


def _is_same(row: Row) -> bool:
    """Whether the whole interval lies within the effect that is too small to matter."""
    most = max(abs(row.effect.low), abs(row.effect.high))
    return bounds.holds(most, "<=", SAME_WITHIN[row.measure])


def told(found: effect_size.Effect) -> str:
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
    word = word if row.differs is None or row.can_tell else "cannot tell"
    a, b = ("> " * row.beyond[0] + f"{row.a:.4g}{unit}", "> " * row.beyond[1] + f"{row.b:.4g}{unit}")
    return f"| {row.route} | {row.measure} | {a} | {b} | {told(row.effect)} | {word} |"


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
             "low": row.effect.low, "high": row.effect.high, "p": row.effect.p, "differs": row.differs,
             "a_is_lower_bound": row.beyond[0], "b_is_lower_bound": row.beyond[1]}
            for row in comparison.rows
        ],
    }  # fmt: skip
