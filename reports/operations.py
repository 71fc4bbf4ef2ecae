"""Operations, built from attempts, and the windows that they belong to.

A history has one row per attempt; a user sees one operation. Its intended start is that of its first attempt;
its outcome, answer and send are those of its last. Response = answer - intended start (the time that the user
waits, queueing in the generator included); service = answer - send of the last attempt. An operation belongs
to the window of its intended start, whenever it ended.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from reports import columns
from reports.windows import FaultWindow, Windows

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
SETTLE_S = 10.0  # excluded from steady time after a fault whose recovery was not observed

Mask = npt.NDArray[np.bool_]


def operations(history: pd.DataFrame, start_ns: int) -> pd.DataFrame:
    """Return one row per operation, ordered by intended start, without the null route.

    Columns of the last attempt, plus: due_s (from the run's start), response_ms, service_ms (NaN if never sent
    or never done), lag_ms (first send - intended start), attempts, was_sent; response_ns and lag_ns are the
    same times as integers, for verdicts (-1 instead of NaN).
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
    """A half-open interval of a run, in seconds from its start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return max(0.0, self.end_s - self.start_s)


def inside(due_s: npt.NDArray[np.float64], spans: list[Span]) -> Mask:
    """Return a mask of the intended starts, shape (n,), that are inside any of `spans`."""
    mask = np.zeros(len(due_s), dtype=np.bool_)
    for span in spans:
        mask |= (due_s >= span.start_s) & (due_s < span.end_s)
    return mask


def whole_load(windows: Windows) -> list[Span]:
    """Return the whole load, warm-up included."""
    return [Span(0.0, windows.load_s)]


def disturbed(windows: Windows) -> list[Span]:
    """Return one span per fault, from injection to recovery.

    The recovery is the observed one, or the one that the scenario allows if that is later. If none was observed,
    the span ends `SETTLE_S` after the end of the fault.
    """
    return [Span(one.start_s, _recovered_s(one, windows)) for one in windows.faults]


def steady(windows: Windows) -> list[Span]:
    """Return the load after warm-up, without faults and their recovery."""
    spans = [Span(windows.warm_up_s, windows.load_s)]
    for excluded in disturbed(windows):
        spans = [part for span in spans for part in _without(span, excluded)]
    return spans


def during_faults(windows: Windows) -> list[Span]:
    """Return one span per fault, from injection to its end: undone, or (instant faults) recovered."""
    return [Span(one.start_s, _end_s(one, windows)) for one in windows.faults]


def after_faults(windows: Windows, within_s: float) -> list[Span]:
    """Return one span per fault, until the next fault or the end of the load.

    It starts `within_s` after the end of a held fault, or after the start of an instant one.
    """
    starts = sorted(fault.start_s for fault in windows.faults)
    spans = []
    for fault in windows.faults:
        start_s = (_end_s(fault, windows) if fault.held else fault.start_s) + within_s
        later = [other_s for other_s in starts if other_s > fault.start_s]
        spans.append(Span(start_s, min([*later, windows.load_s])))
    return spans


def _end_s(fault: FaultWindow, windows: Windows) -> float:
    end_s = fault.end_s if fault.held else fault.recovered_s
    return windows.load_s if end_s is None else min(windows.load_s, max(fault.start_s, end_s))


def _recovered_s(fault: FaultWindow, windows: Windows) -> float:
    end_s = _end_s(fault, windows) if fault.held else fault.start_s
    settled_s = end_s + SETTLE_S
    recovered_s = settled_s if fault.recovered_s is None else max(fault.recovered_s, _end_s(fault, windows))
    return min(windows.load_s, max(recovered_s, end_s + fault.granted_s))


def _without(span: Span, excluded: Span) -> list[Span]:
    before = Span(span.start_s, min(span.end_s, excluded.start_s))
    after = Span(max(span.start_s, excluded.end_s), span.end_s)
    return [part for part in (before, after) if part.length_s > 0]
