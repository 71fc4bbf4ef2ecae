"""What a person sees while the load runs: a table that renews itself on a terminal, a plain line a second elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table


@dataclass(frozen=True)
class Tick:
    """One second of load, from `t_s`. Counts are of that second; `in_flight` at its end.

    `routes`: route -> {p50, p99} in ms of OK responses, from the intended start; `all` pools them.
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


def teller(console: Console) -> Callable[[Tick], None]:
    """Return a listener that shows each second on `console`. The load calls its `close` at the end.

    A terminal that cannot move its cursor (TERM=dumb) gets lines as a file does.
    """
    return _Table(console) if console.is_terminal and not console.is_dumb_terminal else _Lines(console)


def line(tick: Tick) -> str:
    """Return one second as a line of text."""
    pooled = tick.routes.get("all")
    response = f"p50 {pooled['p50']:.1f} ms, p99 {pooled['p99']:.1f} ms" if pooled else "no answer"
    return (f"{tick.t_s:4d} s  planned {tick.planned}, sent {tick.sent}, ok {tick.ok}, fail {tick.fail}, info {tick.info}, "
            f"in flight {tick.in_flight}; {response}; start lag p99 {tick.start_lag_ms_p99:.1f} ms")


class _Lines:
    """A line a second."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, tick: Tick) -> None:
        self._console.print(line(tick), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing stays open."""


class _Table:
    """One table, drawn again each second; sums of the whole load stand below the current second."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._sums = {"planned": 0, "sent": 0, "ok": 0, "fail": 0, "info": 0}
        self._open = False

    def __call__(self, tick: Tick) -> None:
        if not self._open:
            self._live.start()
            self._open = True
        for name in self._sums:
            self._sums[name] += getattr(tick, name)
        self._live.update(self._draw(tick), refresh=True)

    def _draw(self, tick: Tick) -> Table:
        table = Table(title=f"{tick.t_s + 1} s of load, {tick.in_flight} in flight", caption=(
            f"generator: start lag p99 {tick.start_lag_ms_p99:.1f} ms, {tick.cpu_share:.0%} of a core"))
        for name in ("", *self._sums, "p50 ms", "p99 ms"):
            table.add_column(name, justify="left" if not name else "right")
        pooled = tick.routes.get("all", {})
        table.add_row("this second", *(str(getattr(tick, name)) for name in self._sums), _ms(pooled, "p50"), _ms(pooled, "p99"))
        table.add_row("so far", *(str(value) for value in self._sums.values()), "", "", end_section=True)
        for route, response in sorted(tick.routes.items()):
            if route != "all":
                table.add_row(route, "", "", "", "", "", _ms(response, "p50"), _ms(response, "p99"))
        return table

    def close(self) -> None:
        """Leave the terminal as it was. Safe to repeat."""
        if self._open:
            self._live.stop()
            self._open = False


def _ms(response: dict[str, float], name: str) -> str:
    return f"{response[name]:.1f}" if name in response else "–"
