"""Links between regions: when a packet that enters a link leaves it.

Pure: time and random draws are parameters.

A link has a direction. It delays each packet, sends no faster than its rate, loses some packets, keeps their
order, and while it is cut passes none. Its queue is bounded, as in a router: a packet that finds the queue
full is dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from system.kernel.errors import WrongInput

MAX_DELAY_S = 10.0
MAX_RATE_BPS = 1e12
MAX_WAITING_BYTES = 32 * 2**20
OUTSIDE = 4
NAMES = {1: "east", 2: "west", 3: "witness", OUTSIDE: "outside"}
"""The regions. Clients and monitoring are outside; the witness only votes."""


@dataclass(frozen=True)
class Link:
    """One direction between two regions.

    `delay_s`: one way, 0 to 10. `jitter_s`: added delay, uniform from 0 to this value. `loss`: fraction of
    packets lost, 0 to 1. `rate_bps`: bits per second at most, 0 for no limit. `cut`: passes nothing. Raises
    WrongInput if a value is out of bounds.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate_bps: float = 0.0
    cut: bool = False

    def __post_init__(self) -> None:
        bounds = (("delay_s", self.delay_s, MAX_DELAY_S, "seconds"), ("jitter_s", self.jitter_s, MAX_DELAY_S, "seconds"),
                  ("loss", self.loss, 1.0, "as a fraction"), ("rate_bps", self.rate_bps, MAX_RATE_BPS, "bits per second"))
        for name, value, most, unit in bounds:
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not (number and 0 <= value <= most):
                raise WrongInput(f"{name} of a link between regions is {value!r}; it must be from 0 to {most:g} {unit}.")
        if not isinstance(self.cut, bool):
            raise WrongInput(f"cut of a link between regions is {self.cut!r}; it must be true or false.")

    def to_json(self) -> dict[str, Any]:
        """Return the link as plain JSON values."""
        return {"delay_s": self.delay_s, "jitter_s": self.jitter_s, "loss": self.loss, "rate_bps": self.rate_bps, "cut": self.cut}


@dataclass
class LinkState:
    """A link in use: its counters, and when it is free again.

    `waiting`: bytes queued; the owner subtracts those that left.
    """

    line: Link
    packets: int = 0
    bytes: int = 0
    lost: int = 0
    waiting: int = 0
    _free_s: float = 0.0
    _last_s: float = 0.0

    def enter(self, now_s: float, size: int, chance: float, spread: float) -> float | None:
        """Return when a packet of `size` bytes leaves, None: never.

        `chance`, `spread`: uniform draws from [0, 1).
        """
        line = self.line
        if line.cut or chance < line.loss or self.waiting + size > MAX_WAITING_BYTES:
            self.lost += 1
            return None
        self.packets += 1
        self.bytes += size
        start_s = max(now_s, self._free_s)
        self._free_s = start_s + (size * 8 / line.rate_bps if line.rate_bps else 0.0)
        self._last_s = max(self._last_s, self._free_s + line.delay_s + line.jitter_s * spread)
        return self._last_s
