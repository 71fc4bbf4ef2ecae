"""The promises of a scenario, each measured in its window: pass, fail or unknown.

A percentile that its window cannot bear (fewer than 1/(1-q) OK operations, or fewer than 10) is unknown, and
so is every promise about a fault that did not happen. With several faults, the worst one decides.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from reports import columns, delivery, facts, histogram, operations, verdict

MIN_OPERATIONS = 10  # fewer operations carry no rate of errors

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt,
}  # fmt: skip
ALIASES = {"p99.9": "p999", "p99.99": "p9999", "median": "p50", "error": "errors", "error_rate": "errors"}
DELIVERY = "delivery"  # a route of its own: acknowledged tweets on their way into timelines
SHARES = ("errors", "goodput")


def judge(given: facts.Facts, summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry an objective, in the scenario's order: text, verdict, value, bound (SI), window, n, note."""
    history = columns.conform("history", given.history)
    done = operations.operations(history, given.windows.start_ns)
    return [_judge_one(promise, given, summary, done) for promise in given.objectives]


def _judge_one(
    promise: facts.ObjectiveLike, given: facts.Facts, summary: Mapping[str, Any], done: pd.DataFrame
) -> dict[str, Any]:
    metric = ALIASES.get(promise.metric, promise.metric)
    note = _distrust(given, summary) if promise.route == DELIVERY else ""
    rows = _delivered(given) if promise.route == DELIVERY else _of_route(done, promise.route)
    value, n, why = _worst(promise, metric, given.windows, rows)
    value, note = (None, note) if note else (value, why)
    word = verdict.UNKNOWN
    if value is not None:
        word = verdict.PASS if OPERATORS[promise.op](value, promise.bound) else verdict.FAIL
    return {
        "text": text(promise),
        "verdict": word,
        "value": value,
        "bound": promise.bound,
        "unit": unit(metric),
        "route": promise.route,
        "metric": metric,
        "op": promise.op,
        "window": window_text(promise),
        "n": n,
        "note": note,
    }


def _worst(
    promise: facts.ObjectiveLike, metric: str, windows: facts.Windows, rows: pd.DataFrame
) -> tuple[float | None, int, str]:
    spans = _spans(promise, windows)
    if not spans:
        return None, 0, "no fault happened" if "fault" in promise.window else "no such window in this run"
    found = [_measure(metric, rows, one) for one in spans]
    poor = [each for each in found if each[0] is None]
    if poor:
        return poor[0]
    higher_is_worse = promise.op in ("<=", "<")
    return sorted(found, key=lambda each: each[0] or 0.0, reverse=higher_is_worse)[0]


def _spans(promise: facts.ObjectiveLike, windows: facts.Windows) -> list[list[operations.Span]]:
    """The windows to measure: each inner list is one window (of one or several stretches)."""
    if promise.window == "steady":
        return [operations.steady(windows)]
    if promise.window == "whole":
        return [operations.whole(windows)]
    if promise.window == "during fault":
        return [[span] for span in operations.during_faults(windows)]
    return [[span] for span in operations.after_faults(windows, promise.within_s or 0.0)]


def _measure(metric: str, mine: pd.DataFrame, spans: list[operations.Span]) -> tuple[float | None, int, str]:
    rows = mine[operations.inside(mine["due_s"].to_numpy(), spans)]
    good = rows[rows["outcome"] == columns.OK]
    if metric in SHARES:
        if len(rows) < MIN_OPERATIONS:
            return None, len(rows), _few(len(rows), MIN_OPERATIONS)
        share = len(good) / len(rows)
        return (share if metric == "goodput" else 1 - share), len(rows), ""
    values = good["response_ms"].dropna().to_numpy()
    if not histogram.enough(len(values), metric):
        return None, len(values), _few(len(values), histogram.needed(metric))
    found = histogram.describe(values).get(metric)
    if found is None:
        known = ", ".join((*histogram.KEYS, *SHARES))
        return None, len(values), f"the metric {metric} is unknown; known are {known}"
    return found / 1000, len(values), ""


def _few(n: int, needed: int) -> str:
    return f"only {n} operations in the window; {needed} are needed"


def _of_route(done: pd.DataFrame, route: str) -> pd.DataFrame:
    return done if route == "all" else done[done["route"] == route]


def _delivered(given: facts.Facts) -> pd.DataFrame:
    """Deliveries in the shape of operations: due when acknowledged, answered when the last chunk was in."""
    history = columns.conform("history", given.history)
    effects = columns.conform("effects", given.effects)
    rows = delivery.table(history, effects, given.windows.start_ns)
    return pd.DataFrame(
        {"due_s": rows["acked_s"], "response_ms": rows["delay_s"] * 1000, "outcome": columns.OK}
    )


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
    bound = f"{promise.bound * 1000:g} ms" if promise.bound < 1 else f"{promise.bound:g} s"
    if unit(metric) == "share":
        bound = f"{promise.bound * 100:g} %"
    subject = metric if promise.route == "all" else f"{promise.route} {metric}"
    return f"{subject} {promise.op} {bound} {window_text(promise)}"
