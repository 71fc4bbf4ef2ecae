"""Rate limits hold: no user is served more often than allowed, even when the counter server fails."""

from __future__ import annotations

from collections import defaultdict

from chaos.evidence.bundle import Evidence
from chaos.evidence.history import NEVER_NS
from chaos.invariants.finding import Finding, Tally
from scenarios.vocabulary import LIMIT_CLASSES

NAME = "limits_hold"
COUNTERS = "limits"  # kind of the node that holds the counters


def check(evidence: Evidence) -> Finding:
    """In any window of `limits.window`, a user is served at most the limit of a route's class.

    While the counter server is down, at most twice the limit: what the server had already counted, plus the
    same limit again, divided among the gateways as local shares. Only requests that were certainly served
    within one window count: from the first send to the last response.
    """
    tally, knobs = Tally(NAME), evidence.bounds.limits
    history = evidence.history
    sent_ns, done_ns = history.column("sent_ns"), history.column("done_ns")
    outcome, user, route = history.column("outcome"), history.column("user"), history.column("route")
    served: dict[tuple[int, str, int], list[int]] = defaultdict(list)
    window_ns = int(knobs.window_s * 1e9)
    for row in history.rows_of(LIMIT_CLASSES):
        name, kind = LIMIT_CLASSES[route[row]]
        if outcome[row] == "ok" and window_ns and getattr(knobs, kind):
            served[user[row], name, getattr(knobs, kind)].append(row)
    outages = _outages(evidence, window_ns)
    for (user_id, name, limit), rows in served.items():
        tally.checked += len(rows)
        if len(rows) <= limit:
            continue
        rows.sort(key=lambda row: int(sent_ns[row]))
        _judge(tally, f"user {user_id} was served {name}", rows, sent_ns, done_ns, limit, window_ns, outages)
    return tally.finding("no request of a limited route was served")


def _judge(tally: Tally, subject: str, rows: list[int], sent_ns: list[int], done_ns: list[int], limit: int, window_ns: int,
           outages: list[tuple[int, int]]) -> None:
    for first in range(len(rows) - limit):
        begin = int(sent_ns[rows[first]])
        allowed = 2 * limit if any(start < begin + window_ns and begin < end for start, end in outages) else limit
        inside = rows[first:first + allowed + 1]
        if len(inside) > allowed and max(int(done_ns[row]) for row in inside) - begin < window_ns:
            text = f"{subject} {len(inside)} times within {window_ns / 1e9:g} s; the limit is {allowed}."
            tally.violated(text, len(inside), begin)
            return


def _outages(evidence: Evidence, window_ns: int) -> list[tuple[int, int]]:
    """Return the spans in which twice the limit is allowed: a fault of the counters plus one window."""
    return [(fault.injected_ns, (fault.recovered_ns if fault.recovered_ns is not None else NEVER_NS) + window_ns)
            for fault in evidence.faults if fault.injected_ns is not None and fault.target.startswith(COUNTERS)]
