"""Terminal output while the load runs: tables on a terminal, otherwise one line per second.

Both count operations since the start of the load: planned >= sent >= finished >= ok at every tick. HTTP
requests are counted separately, since an operation may send several: retries, second pages, the steps of a
picture's upload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from rich.console import Console
from rich.live import Live
from rich.table import Table


@dataclass(frozen=True)
class Tick:
    """One second of load, from `t_s`. Counts are of that second; `in_flight` at its end.

    `planned`: operations due; `sent`: operations whose first request was sent; `ok`, `fail`, `info`:
    operations that were sent and have finished, by their last outcome; `in_flight`: sent and not finished.
    `unsent`: operations that ended without a request (no connection, nothing left to delete). `requests`:
    HTTP requests of all of them. `routes`: route -> {p50, p99} in ms of OK responses, from the intended
    start; `all` pools them.
    """

    t_s: int
    planned: int
    sent: int
    ok: int
    fail: int
    info: int
    in_flight: int
    start_lag_ms_p99: float
    cpu_share: float
    routes: dict[str, dict[str, float]]
    unsent: int = 0
    requests: int = 0


@dataclass
class Totals:
    """Counts since the start of the load: sums of the fields of `Tick` with the same names."""

    planned: int = 0
    sent: int = 0
    ok: int = 0
    fail: int = 0
    info: int = 0
    unsent: int = 0
    requests: int = 0

    @property
    def finished(self) -> int:
        """Operations that were sent and have an outcome."""
        return self.ok + self.fail + self.info

    @property
    def in_flight(self) -> int:
        """Operations that were sent and have no outcome yet."""
        return self.sent - self.finished

    def add(self, tick: Tick) -> None:
        """Add one second."""
        for count in fields(self):
            setattr(self, count.name, getattr(self, count.name) + getattr(tick, count.name))


def progress_display(console: Console) -> Callable[[Tick], None]:
    """Return a listener that shows each second on `console`. The load calls its `close` at the end.

    A terminal that cannot move its cursor (TERM=dumb) gets lines, like a file.
    """
    return _Table(console) if console.is_terminal and not console.is_dumb_terminal else _Lines(console)


def line(tick: Tick, so_far: Totals) -> str:
    """Return a second as a line of text: counts since the start, latency of the second."""
    pooled = tick.routes.get("all")
    response = f"p50 {pooled['p50']:.1f} ms, p99 {pooled['p99']:.1f} ms" if pooled else "no replies"
    unsent = f", not sent {so_far.unsent}" if so_far.unsent else ""
    outcomes = f"ok {so_far.ok}, fail {so_far.fail}, info {so_far.info}"
    return (f"{tick.t_s:4d} s  operations so far: planned {so_far.planned}, sent {so_far.sent}, "
            f"finished {so_far.finished} ({outcomes}), in flight {so_far.in_flight}{unsent}; "
            f"HTTP requests {so_far.requests}; this second: {response}; "
            f"start lag p99 {tick.start_lag_ms_p99:.1f} ms")


class _Lines:
    """Prints one line per second."""

    def __init__(self, console: Console) -> None:
        self._console, self._so_far = console, Totals()

    def __call__(self, tick: Tick) -> None:
        self._so_far.add(tick)
        self._console.print(line(tick, self._so_far), markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line of text."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


COUNTS = {  # field of Totals -> label in the table
    "planned": "planned", "sent": "sent", "finished": "finished", "ok": "  ok", "fail": "  fail",
    "info": "  info", "unsent": "not sent", "requests": "HTTP requests",
}


class _Table:
    """Two tables, redrawn each second: counts so far and of the last second; latency by route."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._so_far = Totals()
        self._open = False

    def __call__(self, tick: Tick) -> None:
        if not self._open:
            self._live.start()
            self._open = True
        self._so_far.add(tick)
        self._live.update(self._draw(tick), refresh=True)

    def _draw(self, tick: Tick) -> Table:
        added = Totals()
        added.add(tick)
        counts = _columns("operations", "so far", "last second")
        for name, words in COUNTS.items():
            values = str(getattr(self._so_far, name)), f"+{getattr(added, name)}"
            counts.add_row(words, *values, end_section=name == "unsent")
        response = _columns("response", "p50 ms", "p99 ms")
        for route in sorted(tick.routes, key=lambda name: (name != "all", name)):
            response.add_row(route, *(f"{tick.routes[route][name]:.1f}" for name in ("p50", "p99")))
        both = Table.grid(padding=(0, 1))
        both.title = f"{tick.t_s + 1} s of load, {self._so_far.in_flight} operations in flight"
        lag = f"start lag p99 {tick.start_lag_ms_p99:.1f} ms"
        both.caption = f"generator: {lag}, {tick.cpu_share:.0%} of a core"
        both.add_row(counts, response)
        return both

    def note(self, text: str) -> None:
        """Print a line of text above the tables, permanently."""
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Restore the terminal. Idempotent."""
        if self._open:
            self._live.stop()
            self._open = False


def _columns(first: str, *others: str) -> Table:
    table = Table(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
