"""Comparison of two sides of repeated runs, with three results: changed, not changed, cannot tell.

    changed       median or spread of a route's latency differs significantly (5 %, Holm over all tests)
    not changed   no test is significant, and every 95 % interval is within ±5 % (median) or ±15 % (spread)
    cannot tell   anything else: fewer than five runs a side, repeats not interleaved, intervals too wide

A percentile covers every operation due, and an unanswered operation counts as slower than any other
(`over_due`): so a side does not become faster by failing half of its reads. A percentile that falls among
unanswered operations is a lower bound, shown as `> 12 s`. A lower bound can show that a side became slower,
never that it became faster or is unchanged.

There are two tests per route: `median` (p50) and `spread` (p99 / p50). If one run in three becomes slow, the
spread changes and the median does not. Runs of different machines or data are refused, since their difference
has a cause that no statistic can detect; so are those of different providers, unless the caller asks for it.
Void runs are excluded.
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
MIN_RUNS = 5  # per side; with fewer, the intervals of Welch's t are too wide to decide anything
MIN_OPERATIONS = 500  # per route and run; with fewer, p99 depends on fewer than five values
# The tested measures, and the largest effect that counts as no change; p99 is noisier.
SAME_WITHIN = {"median": Decimal("0.05"), "spread": Decimal("0.15")}
QUANTILES = ("p50", "p95", "p99")
MEASURES = ("median", "spread", "p95", "p99", "cpu per operation")
NATIVE = "native"  # the provider of records that name none
FIXES = {"provider": ", or ask for the difference between providers with --across-providers"}
SAME_HOST = ("cpu_model", "cores", "mem_mib")


@dataclass(frozen=True)
class Row:
    """One measure of one route, B against A. `differs`: the test's result; None = shown, not tested.

    `beyond`: for A and for B, whether the figure is only a lower bound, because in some run the percentile
    falls among unanswered operations.
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
        """Whether the figures are conclusive: a lower bound can only show that its own side is slower."""
        slower = (False, True) if self.effect.change > 0 else (True, False)
        return self.beyond == (False, False) or (bool(self.differs) and self.beyond == slower)


@dataclass(frozen=True)
class Comparison:
    """The result, the sentence that explains it, the rows behind it, and figures of recovery."""

    answer: str
    reason: str
    runs: tuple[int, int]
    rows: tuple[Row, ...] = ()
    notes: tuple[str, ...] = ()
    recovery: tuple[compare_recovery.Figure, ...] = ()


Sample = Mapping[str, Mapping[str, effect_size.Measured]]  # route -> measure -> value on the log scale


def compare(a: Sequence[record.Run], b: Sequence[record.Run], *, across_providers: bool = False) -> Comparison:
    """Compare the runs of two sides.

    `across_providers`: one side may be a native lab and the other one on Docker. Raises WrongInput for runs of
    different machines, data, kinds or providers, and for a run that is on both sides.
    """
    for runs in ([*a], [*b]) if across_providers else ([*a, *b],):
        refuse_incomparable(runs, ("provider",))
    refuse_incomparable([*a, *b])
    if {run.run_id for run in a} & {run.run_id for run in b}:
        raise errors.WrongInput("the same run is on both sides; list the repeats of A and of B separately.")
    valid_a, valid_b = _without_void(a), _without_void(b)
    notes = [*_notes(a, b, valid_a, valid_b)]
    recovery = tuple(compare_recovery.figures(valid_a, valid_b))
    reason = _insufficient(valid_a, valid_b)
    if reason:
        return Comparison(CANNOT_TELL, reason, (len(valid_a), len(valid_b)), (), tuple(notes), recovery)
    decided = decide([sample(run) for run in valid_a], [sample(run) for run in valid_b])
    return Comparison(decided.answer, decided.reason, decided.runs, decided.rows, tuple(notes), recovery)


def refuse_incomparable(runs: Sequence[record.Run], names: Sequence[str] = ("kind", "machine", "data")) -> None:
    """Raise WrongInput naming the first difference between the runs: their machines, data or kinds by default."""
    if not runs:
        raise errors.WrongInput("no runs to compare; specify at least five repeats per side.")
    for name in names:
        run_ids = {_identity(run, name): run.run_id for run in runs}
        if len(run_ids) > 1:
            (value_1, id_1), (value_2, id_2) = list(run_ids.items())[:2]
            raise errors.WrongInput(
                f"the runs differ in their {name}: {id_1} has {value_1}, {id_2} has {value_2}: "
                f"compare only runs of one {name}: repeat one of the sides{FIXES.get(name, '')}."
            )


def _identity(run: record.Run, name: str) -> str:
    if name == "kind":
        return run.kind
    if name == "provider":
        return str(run.document["platform"].get("provider", NATIVE))
    if name == "machine":
        return ", ".join(str(run.document["host"].get(key)) for key in SAME_HOST)
    population = run.document["population"]
    return str(population.get("fingerprint") or population.get("sha256") or dict(population))


def _without_void(runs: Sequence[record.Run]) -> list[record.Run]:
    return [run for run in runs if run.document["validity"]["verdict"] != verdict.VOID]


def _notes(
    a: Sequence[record.Run], b: Sequence[record.Run], valid_a: list[record.Run], valid_b: list[record.Run]
) -> list[str]:
    excluded = len(a) + len(b) - len(valid_a) - len(valid_b)
    notes = [f"{excluded} void runs were excluded"] if excluded else []
    for label, key in (("commits", "commit"), ("versions", "versions"), ("seeds", "seed")):
        sides = [{str(run.document[key]) for run in side} for side in (a, b)]
        if sides[0] != sides[1]:
            notes.append(f"{label} differ between the sides")
    return notes


def _insufficient(a: list[record.Run], b: list[record.Run]) -> str:
    """Return why the runs of two sides cannot be compared; "" if they can."""
    if min(len(a), len(b)) < MIN_RUNS:
        needed = f"{MIN_RUNS} interleaved repeats per side are needed: add --repeat {MIN_RUNS}."
        return f"{len(a)} and {len(b)} valid runs; {needed}"
    if not interleaved([run.document["started_at"] for run in a], [run.document["started_at"] for run in b]):
        confounded = "so a change cannot be distinguished from drift of the machine"
        return f"the repeats are not interleaved, {confounded}: run A, B, A, B, ..."
    return ""


def interleaved(a_at: Sequence[str], b_at: Sequence[str]) -> bool:
    """Return whether, ordered by time, neither side is ever more than two runs ahead of the other."""
    order = sorted([(at, 1) for at in a_at] + [(at, -1) for at in b_at])
    ahead = np.cumsum([step for _, step in order])
    return bool(np.all(np.abs(ahead) <= 2))


def sample(run: record.Run) -> dict[str, dict[str, effect_size.Measured]]:
    """Return the measures of one run in steady time, by route, without routes that have too few operations."""
    view = View(run)
    done = view.done
    steady = done[operations.inside(done["due_s"].to_numpy(), operations.steady(view.windows))]
    steady = steady[~refusals.mask(steady, run.document["scenario"])]
    end_ns = over_due.end_ns(view.windows, view.done["done_ns"])
    measures = {}
    for route, rows in steady.groupby("route"):
        if len(rows) >= MIN_OPERATIONS:
            measures[str(route)] = _of_route(rows, end_ns)
    core_s = sum(usage["core_s"] for usage in run.summary["cpu"].values())
    ok_n = run.summary["totals"]["ok"]
    if core_s and ok_n:
        measures["all"] = {"cpu per operation": effect_size.Measured(math.log(core_s / ok_n * 1000), 0.0)}
    return measures


def _of_route(rows: pd.DataFrame, end_ns: int) -> dict[str, effect_size.Measured]:
    """Return the measures of one route; `rows`: its operations ordered by time, answered or not."""
    answered, observed = over_due.split(rows, end_ns)
    good = ((rows["outcome"] == columns.OK) & (rows["response_ns"] >= 0)).to_numpy()
    waited_ns = np.empty(len(rows), dtype=np.int64)
    waited_ns[good], waited_ns[~good] = answered, over_due.ordered_last(answered, observed)
    return latencies(np.maximum(waited_ns, 1) / operations.NS_PER_MS, rows["due_s"].to_numpy(), good)


def latencies(
    response_ms: effect_size.Floats, due_s: effect_size.Floats, good: operations.Mask | None = None
) -> dict[str, effect_size.Measured]:
    """Return the measures of one route of one run, each with its error within the run.

    `good`: shape (n,), whether each operation succeeded; None: all did. For the others, `response_ms` is the time
    for which they were observed, at least that of the slowest success. There is no spread if the median is only a
    lower bound.
    """
    answered = np.ones(len(response_ms), dtype=np.bool_) if good is None else good
    exact = [over_due.quantile(name, response_ms[answered], response_ms[~answered]) for name in QUANTILES]
    p50, p95, p99 = (math.log(quantile.least) for quantile in exact)
    beyond50, beyond95, beyond99 = (quantile.value is None for quantile in exact)
    probabilities = [histogram.QUANTILES[name] for name in QUANTILES]
    draws = effect_size.bootstrap_quantiles(response_ms, due_s, probabilities)
    sd50, sd95, sd99 = (float(each) for each in draws.std(axis=0))
    measures = {
        "median": effect_size.Measured(p50, sd50, beyond50),
        "spread": effect_size.Measured(p99 - p50, float((draws[:, 2] - draws[:, 0]).std()), beyond99),
        "p95": effect_size.Measured(p95, sd95, beyond95),
        "p99": effect_size.Measured(p99, sd99, beyond99),
    }
    if beyond50:
        del measures["spread"]  # the ratio of two lower bounds is no bound
    return measures


def decide(a: Sequence[Sample], b: Sequence[Sample]) -> Comparison:
    """Compare the samples of two sides, at least two runs each. A route that some run lacks is excluded."""
    routes = [route for route in a[0] if all(route in one for one in (*a, *b))]
    pairs = [
        (route, measure)
        for route in routes
        for measure in MEASURES
        if all(measure in one[route] for one in (*a, *b))
    ]
    untested = {pair: _row(pair, a, b) for pair in pairs}
    tested = [pair for pair in pairs if pair[1] in SAME_WITHIN]
    if not tested:
        reason = f"no route has {MIN_OPERATIONS} operations in steady time in every run: run longer."
        return Comparison(CANNOT_TELL, reason, (len(a), len(b)), tuple(untested.values()))
    differs = dict(zip(tested, effect_size.holm([untested[pair].effect.p for pair in tested]), strict=True))
    rows = tuple(dataclasses.replace(row, differs=differs.get(pair)) for pair, row in untested.items())
    answer, reason = _answer([row for row in rows if row.differs is not None])
    return Comparison(answer, reason, (len(a), len(b)), rows)


def _row(pair: tuple[str, str], a: Sequence[Sample], b: Sequence[Sample]) -> Row:
    route, measure = pair
    side_a, side_b = [one[route][measure] for one in a], [one[route][measure] for one in b]
    medians = [math.exp(float(np.median([run.value for run in side]))) for side in (side_a, side_b)]
    beyond = any(run.beyond for run in side_a), any(run.beyond for run in side_b)
    return Row(route, measure, medians[0], medians[1], effect_size.effect(side_a, side_b), None, beyond)


def _answer(tested: list[Row]) -> tuple[str, str]:
    changed = [row for row in tested if row.differs and row.can_tell]
    if changed:
        row = max(changed, key=lambda each: abs(math.log1p(each.effect.change)))
        if True in row.beyond:
            side = "B" if row.beyond[1] else "A"
            why = f"for {side} it falls among unanswered operations"
            return CHANGED, f"{row.route} {row.measure} {row.effect.change:+.0%} or more: {why}."
        return CHANGED, f"{row.route} {row.measure} {effect_text(row.effect)}."
    inconclusive = [row for row in tested if not row.can_tell]
    if inconclusive:
        figure = f"the {inconclusive[0].measure} of {inconclusive[0].route}"
        why = "falls among unanswered operations, so only a lower bound is known"
        return CANNOT_TELL, f"{figure} {why}: remove the failures, or run longer."
    wide = [row for row in tested if not _is_equivalent(row)]
    if not wide:
        within = " and ".join(f"±{bound:.0%} ({measure})" for measure, bound in SAME_WITHIN.items())
        return NOT_CHANGED, f"the interval of every tested effect is within {within}."
    row = max(wide, key=lambda each: each.effect.high - each.effect.low)
    possible = f"{row.route} {row.measure} could be {effect_text(row.effect)}"
    return CANNOT_TELL, f"no significant difference, but {possible}: add repeats."


def _is_equivalent(row: Row) -> bool:
    """Return whether the whole interval is within the bound that counts as no change."""
    most = max(abs(row.effect.low), abs(row.effect.high))
    return bounds.holds(most, "<=", SAME_WITHIN[row.measure])


def effect_text(effect: effect_size.Effect) -> str:
    """Format an effect with its interval: +12.3% (95 %: +8.1% to +16.7%)."""
    return f"{effect.change:+.1%} (95 %: {effect.low:+.1%} to {effect.high:+.1%})"


def text(comparison: Comparison) -> str:
    """Return the comparison as Markdown."""
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
    return f"| {row.route} | {row.measure} | {a} | {b} | {effect_text(row.effect)} | {word} |"


def document(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain JSON values."""
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
