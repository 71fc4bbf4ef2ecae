"""The objectives of a scenario, each measured in its window: pass, fail or unknown.

A latency covers every operation due in the window (`over_due`); one without a good answer is slower than any
bound. A share is a ratio of counts. Both are compared with the bound as it was written, in whole numbers
(`scenarios.bounds`). Refusals that the scenario configures are left out, except from `refused`, which is
their share.

A percentile that its window cannot bear (fewer than 1/(1-q) operations, or fewer than 10) is unknown, and
so is every objective about a fault that did not happen. With several faults, the worst one decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

from reports import columns, delivery, facts, operations
from reports.judge import over_due, refusals, verdict
from reports.stats import histogram
from scenarios import bounds

MIN_OPERATIONS = 10  # fewer operations carry no rate of errors
NS_PER_S = operations.NS_PER_S

ALIASES = {"p99.9": "p999", "p99.99": "p9999", "median": "p50", "error": "errors", "error_rate": "errors"}
DELIVERY = "delivery"  # a route of its own: acknowledged tweets on their way into timelines
SHARES = ("errors", "goodput", "refused")


@dataclass(frozen=True)
class Measured:
    """One window's figure: s or a fraction. `value` None: `at_least` says why (it falls among operations
    without an answer and is more than that), or, where that is None too, the window cannot bear it and `note`
    says why.

    `n`: operations that the figure covers. `unanswered`, `refused`: operations without a good answer, and
    refusals.
    """

    value: Fraction | None
    n: int = 0
    note: str = ""
    at_least: Fraction | None = None
    unanswered: int = 0
    refused: int = 0

    def judged(self, op: str, bound: bounds.Number) -> str:
        """Return pass, fail or unknown. What has no value is slower than any bound, so it fails an upper one;
        a lower one it passes only as far as it was observed.
        """
        if self.value is not None:
            return verdict.PASS if bounds.holds(self.value, op, bound) else verdict.FAIL
        if self.at_least is None:
            return verdict.UNKNOWN
        if op in ("<=", "<"):
            return verdict.FAIL
        return verdict.PASS if bounds.holds(self.at_least, ">=", bound) else verdict.UNKNOWN

    @property
    def size(self) -> tuple[bool, Fraction]:
        """Return a key that orders figures, those without a value last."""
        return self.value is None, self.value if self.value is not None else self.at_least or Fraction(0)


def judge(given: facts.Facts, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry an objective, in the scenario's order: text, verdict, value, at_least, bound (SI), window, n,
    note.
    """
    history = columns.conform("history", given.history)
    done = operations.operations(history, given.windows.start_ns)
    done = done.assign(refused=refusals.mask(done, given.scenario_doc))
    return [_judge_one(promise, given, summary, done) for promise in given.objectives]


def _judge_one(
    promise: facts.ObjectiveLike, given: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame
) -> dict[str, Any]:
    metric = ALIASES.get(promise.metric, promise.metric)
    if promise.route == DELIVERY:
        rows, end_ns = _deliveries(given, done)
    else:
        rows, end_ns = _of_route(done, promise.route), over_due.end_ns(given.windows, done["done_ns"])
    found = _worst(promise, metric, given.windows, rows, end_ns)
    distrust = _distrust(given, summary) if promise.route == DELIVERY else ""
    if distrust and found.at_least is None:  # tweets without a delivery need no probe's word
        found = Measured(None, found.n, distrust)
    return {
        "text": text(promise),
        "verdict": found.judged(promise.op, promise.bound),
        "value": None if found.value is None else float(found.value),
        "at_least": None if found.at_least is None else float(found.at_least),
        "bound": float(promise.bound),
        "unit": unit(metric),
        "route": promise.route,
        "metric": metric,
        "op": promise.op,
        "window": window_text(promise),
        "n": found.n,
        "unanswered": found.unanswered,
        "refused": found.refused,
        "note": found.note or _note(metric, promise.route, found),
    }


def _worst(
    promise: facts.ObjectiveLike, metric: str, windows: facts.Windows, rows: pd.DataFrame, end_ns: int
) -> Measured:
    """The window that decides: the worst verdict, and of those the worst figure."""
    spans = _spans(promise, windows)
    if not spans:
        why = "no fault happened" if "fault" in promise.window else "no such window in this run"
        return Measured(None, 0, why)
    found = [_measure(metric, rows, one, end_ns) for one in spans]
    rank = {one: verdict.RANK[one.judged(promise.op, promise.bound)] for one in found}
    worst = [one for one in found if rank[one] == max(rank.values())]
    return (max if promise.op in ("<=", "<") else min)(worst, key=lambda one: one.size)


def _spans(promise: facts.ObjectiveLike, windows: facts.Windows) -> list[list[operations.Span]]:
    """The windows to measure: each inner list is one window (of one or several stretches)."""
    if promise.window == "steady":
        return [operations.steady(windows)]
    if promise.window == "whole":
        return [operations.whole(windows)]
    if promise.window == "during fault":
        return [[span] for span in operations.during_faults(windows)]
    return [[span] for span in operations.after_faults(windows, promise.within_s or 0.0)]


def _measure(metric: str, mine: pd.DataFrame, spans: list[operations.Span], end_ns: int) -> Measured:
    due = mine[operations.inside(mine["due_s"].to_numpy(), spans)]
    refused = int(due["refused"].sum())
    if metric in SHARES:
        return share(metric, len(due), int((due["outcome"] == columns.OK).sum()), refused)
    if metric not in histogram.KEYS:
        known = ", ".join((*histogram.KEYS, *SHARES))
        return Measured(None, len(due), f"the metric {metric} is unknown; known are {known}")
    answered, observed = over_due.split(due[~due["refused"]], end_ns)
    n, unanswered = len(answered) + len(observed), len(observed)
    if not histogram.enough(n, metric):
        return Measured(None, n, _few(n, histogram.needed(metric)), None, unanswered, refused)
    found = over_due.quantile(metric, answered, observed)
    return Measured(_seconds(found.value), n, "", _seconds(found.at_least), unanswered, refused)


def share(metric: str, due: int, ok: int, refused: int) -> Measured:
    """Return a metric of SHARES from counts: operations due, those of them that were ok, and those that were
    refused.
    """
    n = due if metric == "refused" else due - refused
    part = {"errors": due - refused - ok, "goodput": ok, "refused": refused}[metric]
    if n < MIN_OPERATIONS:
        return Measured(None, n, _few(n, MIN_OPERATIONS), None, due - refused - ok, refused)
    return Measured(Fraction(part, n), n, "", None, due - refused - ok, refused)


def _seconds(value_ns: Fraction | float | None) -> Fraction | None:
    return None if value_ns is None else Fraction(value_ns) / NS_PER_S


def _note(metric: str, route: str, found: Measured) -> str:
    """What the figure covers, where operations had no good answer or were refused."""
    parts = []
    if found.unanswered and metric not in SHARES:
        what = "were not delivered" if route == DELIVERY else "failed, had no answer or an unknown outcome"
        parts.append(f"{found.unanswered:,} of {found.n:,} {what} and count as slower than any bound")
    if found.refused and metric != "refused":
        parts.append(f"{found.refused:,} refusals (429) under the scenario's own limits are not part of it")
    return "; ".join(parts)


def _few(n: int, needed: int) -> str:
    return f"only {n} operations in the window; {needed} are needed"


def _of_route(done: pd.DataFrame, route: str) -> pd.DataFrame:
    return done if route == "all" else done[done["route"] == route]


def _deliveries(given: facts.Facts, done: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Deliveries in the shape of operations, due when acknowledged and answered when the last chunk was in;
    and the end of their observation.
    """
    history, effects = columns.conform("history", given.history), columns.conform("effects", given.effects)
    rows = delivery.due(history, effects, given.windows.start_ns)
    return rows, over_due.end_ns(given.windows, done["done_ns"], effects["at_ns"])


def _distrust(given: facts.Facts, summary: Mapping[str, Any]) -> str:
    """Why delivery delays of a real run cannot be believed; empty where they can."""
    probes = summary["delivery"]["probes"]
    if given.kind != "system" or probes["verdict"] == verdict.PASS:
        return ""
    return f"API probes confirm {probes['agree']} of {probes['pairs']} deliveries; all must agree, and one at least"


def unit(metric: str) -> str:
    """The SI unit of a metric's value and bound: s or share."""
    return "share" if metric in SHARES else "s"


def window_text(promise: facts.ObjectiveLike) -> str:
    """The window in words."""
    within = f" within {promise.within_s:g} s" if promise.within_s is not None else ""
    return f"{promise.window}{within}"


def text(promise: facts.ObjectiveLike) -> str:
    """The promise as its author wrote it; where that is not known, as near as its values allow."""
    written = str(getattr(promise, "text", ""))
    if written:
        return written
    metric = ALIASES.get(promise.metric, promise.metric)
    value = bounds.exact(promise.bound)
    bound = f"{float(value * 1000):g} ms" if value < 1 else f"{float(value):g} s"
    if unit(metric) == "share":
        bound = f"{float(value * 100):g} %"
    subject = metric if promise.route == "all" else f"{promise.route} {metric}"
    return f"{subject} {promise.op} {bound} {window_text(promise)}"
