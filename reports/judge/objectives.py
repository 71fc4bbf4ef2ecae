"""The objectives of a scenario, each measured in its window: pass, fail or unknown.

A latency covers every operation due in the window (`over_due`); an operation that did not succeed counts as
slower than any bound. A share is a ratio of counts. Both are compared with the bound as written, in exact
arithmetic (`scenarios.bounds`). Refusals that the scenario configures are excluded, except from `refused`,
which is their share.

A percentile of too few operations (fewer than 1/(1-q), or fewer than 10) is unknown, and so is every objective
about a fault that did not happen. With several faults, the worst one decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

from reports import columns, delivery, facts, operations
from reports.judge import over_due, verdict
from reports.stats import histogram
from scenarios import bounds

MIN_OPERATIONS = 10  # with fewer, an error rate is unknown
NS_PER_S = operations.NS_PER_S

ALIASES = {"p99.9": "p999", "p99.99": "p9999", "median": "p50", "error": "errors", "error_rate": "errors"}
DELIVERY = "delivery"  # a pseudo-route: from the acknowledgement of a tweet until it is in the timelines
JUDGED = ("due_s", "due_ns", "outcome", "response_ns", "refused")
SHARES = ("errors", "goodput", "refused")


@dataclass(frozen=True)
class Measured:
    """The figure (a percentile or a share) of one window, in s or as a fraction.

    `value`: None if the figure falls among unanswered operations; it is then more than `at_least`. If `at_least`
    is None, too, the window does not allow a figure and `note` explains why. `n`: operations that the figure
    covers. `unanswered`: operations that did not succeed. `refused`: refusals.
    """

    value: Fraction | None
    n: int = 0
    note: str = ""
    at_least: Fraction | None = None
    unanswered: int = 0
    refused: int = 0

    def judged(self, op: str, bound: bounds.Number) -> str:
        """Return pass, fail or unknown.

        A figure among unanswered operations fails an upper bound. It passes a lower bound only if `at_least`
        reaches it, and is otherwise unknown.
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
        """A sort key: figures without a value come last."""
        return self.value is None, self.value if self.value is not None else self.at_least or Fraction(0)


def judge(run_facts: facts.Facts, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one entry per objective, in the scenario's order.

    Keys: text, verdict, value, at_least, bound (SI), window, n, note and others.
    """
    return [_judge_one(objective, run_facts, summary, run_facts.operations) for objective in run_facts.objectives]


def _judge_one(
    objective: facts.ObjectiveLike, run_facts: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame
) -> dict[str, Any]:
    metric = ALIASES.get(objective.metric, objective.metric)
    if objective.route == DELIVERY:
        rows, end_ns = _deliveries(run_facts, done)
    else:
        rows, end_ns = _of_route(done, objective.route), over_due.end_ns(run_facts.windows, done["done_ns"])
    measured = _worst(objective, metric, run_facts.windows, rows, end_ns)
    unconfirmed = _unconfirmed(run_facts, summary) if objective.route == DELIVERY else ""
    if unconfirmed and measured.at_least is None:  # undelivered tweets need no confirmation by probes
        measured = Measured(None, measured.n, unconfirmed)
    return {
        "text": text(objective),
        "verdict": measured.judged(objective.op, objective.bound),
        "value": None if measured.value is None else float(measured.value),
        "at_least": None if measured.at_least is None else float(measured.at_least),
        "bound": float(objective.bound),
        "unit": unit(metric),
        "route": objective.route,
        "metric": metric,
        "op": objective.op,
        "window": window_text(objective),
        "n": measured.n,
        "unanswered": measured.unanswered,
        "refused": measured.refused,
        "note": measured.note or _note(metric, objective.route, measured),
    }


def _worst(
    objective: facts.ObjectiveLike, metric: str, windows: facts.Windows, rows: pd.DataFrame, end_ns: int
) -> Measured:
    """Return the figure of the deciding window: the worst verdict, and among those the worst figure."""
    spans = _spans(objective, windows)
    if not spans:
        why = "no fault happened" if "fault" in objective.window else "no such window in this run"
        return Measured(None, 0, why)
    figures = [_measure(metric, rows, window, end_ns) for window in spans]
    rank = {one: verdict.RANK[one.judged(objective.op, objective.bound)] for one in figures}
    worst = [one for one in figures if rank[one] == max(rank.values())]
    return (max if objective.op in ("<=", "<") else min)(worst, key=lambda one: one.size)


def _spans(objective: facts.ObjectiveLike, windows: facts.Windows) -> list[list[operations.Span]]:
    """Return the windows to measure: each inner list is one window, of one or several spans."""
    if objective.window == "steady":
        return [operations.steady(windows)]
    if objective.window == "whole":
        return [operations.whole_load(windows)]
    if objective.window == "during fault":
        return [[span] for span in operations.during_faults(windows)]
    return [[span] for span in operations.after_faults(windows, objective.within_s or 0.0)]


def _measure(metric: str, rows: pd.DataFrame, spans: list[operations.Span], end_ns: int) -> Measured:
    due = rows[operations.inside(rows["due_s"].to_numpy(), spans)]
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
    quantile = over_due.quantile(metric, answered, observed)
    return Measured(_seconds(quantile.value), n, "", _seconds(quantile.at_least), unanswered, refused)


def share(metric: str, due: int, ok: int, refused: int) -> Measured:
    """Return a metric of SHARES from counts: operations due, and the ok and the refused ones among them."""
    n = due if metric == "refused" else due - refused
    part = {"errors": due - refused - ok, "goodput": ok, "refused": refused}[metric]
    if n < MIN_OPERATIONS:
        return Measured(None, n, _few(n, MIN_OPERATIONS), None, due - refused - ok, refused)
    return Measured(Fraction(part, n), n, "", None, due - refused - ok, refused)


def _seconds(value_ns: Fraction | float | None) -> Fraction | None:
    return None if value_ns is None else Fraction(value_ns) / NS_PER_S


def _note(metric: str, route: str, measured: Measured) -> str:
    """Return how unanswered and refused operations are counted; "" if there are none."""
    parts = []
    if measured.unanswered and metric not in SHARES:
        what = "were not delivered" if route == DELIVERY else "failed, had no answer or an unknown outcome"
        parts.append(f"{measured.unanswered:,} of {measured.n:,} {what} and count as slower than any bound")
    if measured.refused and metric != "refused":
        parts.append(f"{measured.refused:,} refusals (429) under the scenario's own limits are excluded")
    return "; ".join(parts)


def _few(n: int, needed: int) -> str:
    return f"only {n} operations in the window; {needed} are needed"


def _of_route(done: pd.DataFrame, route: str) -> pd.DataFrame:
    rows = done[list(JUDGED)]  # selecting rows copies every column of a table
    return rows if route == "all" else rows[done["route"] == route]


def _deliveries(run_facts: facts.Facts, done: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return deliveries with the columns of operations, and the end of their observation.

    A delivery is due when the tweet is acknowledged, and answered when the last chunk is written.
    """
    history, effects = run_facts.tables["history"], run_facts.tables["effects"]
    rows = delivery.due(history, effects, run_facts.windows.start_ns)
    return rows, over_due.end_ns(run_facts.windows, done["done_ns"], effects["at_ns"])


def _unconfirmed(run_facts: facts.Facts, summary: Mapping[str, Any]) -> str:
    """Return why delivery delays of a real run are not confirmed by probes; "" if they are."""
    probes = summary["delivery"]["probes"]
    if run_facts.kind != "system" or probes["verdict"] == verdict.PASS:
        return ""
    return f"API probes confirm {probes['agree']} of {probes['pairs']} deliveries; at least one is needed, and all must agree"


def unit(metric: str) -> str:
    """Return the SI unit of a metric's value and bound: s or share."""
    return "share" if metric in SHARES else "s"


def window_text(objective: facts.ObjectiveLike) -> str:
    """Return the window as text."""
    within = f" within {objective.within_s:g} s" if objective.within_s is not None else ""
    return f"{objective.window}{within}"


def text(objective: facts.ObjectiveLike) -> str:
    """Return the objective as written in the scenario; if that is unknown, a text made from its values."""
    written = str(getattr(objective, "text", ""))
    if written:
        return written
    metric = ALIASES.get(objective.metric, objective.metric)
    value = bounds.exact(objective.bound)
    bound = f"{float(value * 1000):g} ms" if value < 1 else f"{float(value):g} s"
    if unit(metric) == "share":
        bound = f"{float(value * 100):g} %"
    subject = metric if objective.route == "all" else f"{objective.route} {metric}"
    return f"{subject} {objective.op} {bound} {window_text(objective)}"
