"""From attempts to operations, and which operations a window holds.

A history has one row an attempt; a user sees one operation. Its intended start is that of its first
attempt, its outcome, answer and send are those of its last. Response = answer - intended start (what a user
waits, queueing in the generator included); service = answer - send of the attempt that was answered.
An operation belongs to a window by its intended start, whenever it ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports import columns, facts

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
SETTLE_S = 10.0  # a fault whose recovery was never seen hides this much of the run after its end

Mask = npt.NDArray[np.bool_]


def operations(history: pd.DataFrame, start_ns: int) -> pd.DataFrame:
    """One row an operation, in order of intended start, without the null route.

    Columns of the last attempt, plus: due_s (from the run's start), response_ms, service_ms (NaN where never
    sent or never done), lag_ms (first send - intended start), attempts, was_sent; response_ns and lag_ns are
    the same times as whole numbers, for verdicts (-1 where they are NaN).
    """
    rows = history[history["route"] != columns.NULL_ROUTE]
    root = np.where(rows["retry_of"] >= 0, rows["retry_of"], rows["op"])
    ordered = rows.assign(root=root).sort_values(["root", "attempt", "op"], kind="stable")
    groups = ordered.groupby("root", sort=True)
    last = groups.tail(1).set_index("root")
    first = groups.head(1).set_index("root")
    sent, done = last["sent_ns"].to_numpy(), last["done_ns"].to_numpy()
    due, first_sent = first["due_ns"].to_numpy(), first["sent_ns"].to_numpy()
    known = (sent > 0) & (done > 0)
    return (
        last.assign(
            due_ns=due,
            due_s=(due - start_ns) / NS_PER_S,
            response_ms=np.where(known, (done - due) / NS_PER_MS, np.nan),
            service_ms=np.where(known, (done - sent) / NS_PER_MS, np.nan),
            lag_ms=np.where(first_sent > 0, (first_sent - due) / NS_PER_MS, np.nan),
            response_ns=np.where(known, done - due, -1),
            lag_ns=np.where(first_sent > 0, first_sent - due, -1),
            attempts=groups.size(),
            was_sent=sent > 0,
        )
        .sort_values("due_ns", kind="stable")
        .reset_index(names="op_root")
    )


@dataclass(frozen=True)
class Span:
    """A half-open stretch of a run, seconds from its start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return max(0.0, self.end_s - self.start_s)


def inside(due_s: npt.NDArray[np.float64], spans: list[Span]) -> Mask:
    """Which intended starts, shape (n,), lie in any of `spans`."""
    found = np.zeros(len(due_s), dtype=np.bool_)
    for span in spans:
        found |= (due_s >= span.start_s) & (due_s < span.end_s)
    return found


def whole(windows: facts.Windows) -> list[Span]:
    """All of the load, warm-up included."""
    return [Span(0.0, windows.load_s)]


def disturbed(windows: facts.Windows) -> list[Span]:
    """Each fault with its recovery: the known one, or the one that the scenario grants where that is longer.

    Without a known recovery, `SETTLE_S` after it count as one.
    """
    return [Span(one.start_s, _recovered_s(one, windows)) for one in windows.faults]


def steady(windows: facts.Windows) -> list[Span]:
    """After warm-up, outside of faults and their recovery."""
    left = [Span(windows.warm_up_s, windows.load_s)]
    for hole in disturbed(windows):
        left = [part for span in left for part in _without(span, hole)]
    return left


def during_faults(windows: facts.Windows) -> list[Span]:
    """One span a fault, from injection to its end: undone, or (instant faults) recovered."""
    return [Span(one.start_s, _end_s(one, windows)) for one in windows.faults]


def after_faults(windows: facts.Windows, within_s: float) -> list[Span]:
    """One span a fault, to the next fault or the end of the load: from `within_s` after its end where it is held,
    after its start where it is instant."""
    starts = sorted(one.start_s for one in windows.faults)
    spans = []
    for one in windows.faults:
        begin = (_end_s(one, windows) if one.held else one.start_s) + within_s
        following = [start for start in starts if start > one.start_s]
        spans.append(Span(begin, min([*following, windows.load_s])))
    return spans


def _end_s(one: facts.FaultWindow, windows: facts.Windows) -> float:
    end_s = one.end_s if one.held else one.recovered_s
    return windows.load_s if end_s is None else min(windows.load_s, max(one.start_s, end_s))


def _recovered_s(one: facts.FaultWindow, windows: facts.Windows) -> float:
    end_s = _end_s(one, windows) if one.held else one.start_s
    known_s = max(one.recovered_s, _end_s(one, windows)) if one.recovered_s is not None else end_s + SETTLE_S
    return min(windows.load_s, max(known_s, end_s + one.granted_s))


def _without(span: Span, hole: Span) -> list[Span]:
    parts = [Span(span.start_s, min(span.end_s, hole.start_s)), Span(max(span.start_s, hole.end_s), span.end_s)]
    return [part for part in parts if part.length_s > 0]
