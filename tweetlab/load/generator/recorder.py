"""The files that the load process writes while it runs, so that Ctrl-C or SIGKILL loses nothing.

Runs in Locust's process.

    invokes.jsonl   one line before each send, unbuffered: a killed process leaves unknown outcomes, not gaps
    rows.jsonl      one line per attempt when it has ended, written each second
    probes.jsonl    one line per delivery probe

Rows contain only values that are not neutral; `tables.history` fills in the rest.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from tweetlab.load.generator import wire

Row = dict[str, Any]


class Recorder:
    """Appends rows and keeps the counts of the current second."""

    def __init__(self, folder: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._invokes, self._rows, self._probes = (
            os.open(folder / name, flags, 0o644) for name in ("invokes.jsonl", "rows.jsonl", "probes.jsonl"))
        self._in_flight: dict[tuple[int, int], int] = {}
        self._open: set[int] = set()  # planned operations that were sent and have not finished
        self._buffer = bytearray()
        self._probe_buffer = bytearray()
        self.second = Second()
        self.lags_ns: list[int] = []

    def invoke(self, op: int, attempt: int, sent_ns: int, what: Row) -> None:
        """Record that an attempt is about to be sent. `what`: columns of its row that are already known."""
        self._in_flight[op, attempt] = sent_ns
        os.write(self._invokes, orjson.dumps({"op": op, "attempt": attempt, "sent_ns": sent_ns, **what}) + b"\n")

    def sent_ns(self, op: int, attempt: int) -> int:
        """Return when an attempt in flight was sent; 0 if it was not sent."""
        return self._in_flight.get((op, attempt), 0)

    @property
    def in_flight(self) -> int:
        """Planned operations sent and not finished, including those that wait for another attempt."""
        return len(self._open)

    def requested(self) -> None:
        """Count an HTTP request of the load: an attempt, a step of a journey or a second page, but no probe."""
        self.second.requests += 1

    def finished(self, op: int, outcome: str) -> None:
        """Count a planned operation that has ended: by `outcome`, once, if it was sent; else as `unsent`."""
        if op in self._open:
            self._open.remove(op)
            self.second.outcomes[outcome] += 1
        else:
            self.second.unsent += 1

    def ended(self, row: Row) -> None:
        """Record an attempt that has ended."""
        self._in_flight.pop((row["op"], row["attempt"]), None)
        self._buffer += orjson.dumps(row)
        self._buffer += b"\n"
        outcome, route = row["outcome"], row["route"]
        if route == "null":
            return
        if outcome == wire.OK:
            self.second.response_ns.setdefault(route, []).append(row["done_ns"] - row["due_ns"])

    def began(self, op: int, due_ns: int, sent_ns: int) -> None:
        """Record that a planned operation is sent (once per operation), and its start lag."""
        self._open.add(op)
        self.lags_ns.append(sent_ns - due_ns)
        self.second.sent += 1
        self.second.lag_ns.append(sent_ns - due_ns)

    def probe(self, row: Row) -> None:
        """Record a delivery probe that has ended."""
        self._probe_buffer += orjson.dumps(row) + b"\n"

    def flush(self) -> None:
        """Write all buffered rows to the files."""
        for handle, buffer in ((self._rows, self._buffer), (self._probes, self._probe_buffer)):
            if buffer:
                os.write(handle, buffer)
                buffer.clear()

    def next_second(self) -> Second:
        """Return the counts of the last second and start a new one."""
        done, self.second = self.second, Second()
        return done


class Second:
    """Counts and latencies (ns) of one second, by the time of each event.

    `sent`, `outcomes`, `unsent`: planned operations; `requests`: HTTP requests of them and of their second
    pages.
    """

    def __init__(self) -> None:
        self.began_ns = time.monotonic_ns()
        self.sent = self.unsent = self.requests = 0
        self.outcomes: Counter[str] = Counter()
        self.response_ns: dict[str, list[int]] = {}
        self.lag_ns: list[int] = []

    def percentiles_ms(self) -> dict[str, dict[str, float]]:
        """Return route -> {p50, p99} of the OK responses, ms; `all` pools them for the live view only."""
        pooled = [value for values in self.response_ns.values() for value in values]
        groups = {**self.response_ns, **({"all": pooled} if pooled else {})}
        return {route: {"p50": rank(values, 0.5) / 1e6, "p99": rank(values, 0.99) / 1e6} for route, values in groups.items()}


def rank(values: list[int], share: float) -> int:
    """Return the nearest-rank percentile of `values`; 0 if there are none."""
    if not values:
        return 0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(share * 1000) // 1000) - 1))]
