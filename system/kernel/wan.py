"""The lines between regions: when a packet that enters one comes out at its other end. Pure: time and chance are handed in.

A line has a direction. It holds each packet for its delay, sends no faster than its rate, loses some, keeps their order,
and while it is cut lets none through. What waits is bounded, as in a router: a packet that finds the line full is dropped.
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
"""The regions. Whoever uses and watches the lab is outside; the witness only votes."""


@dataclass(frozen=True)
class Line:
    """One direction between two regions.

    `delay_s`: one way, 0 to 10. `jitter_s`: up to so much more, evenly spread. `loss`: share of the packets that vanish, 0 to 1.
    `rate_bps`: bits a second at most, 0 for no limit. `cut`: nothing comes through. Raises WrongInput outside the bounds.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    rate_bps: float = 0.0
    cut: bool = False

    def __post_init__(self) -> None:
        bounds = (("delay_s", self.delay_s, MAX_DELAY_S, "seconds"), ("jitter_s", self.jitter_s, MAX_DELAY_S, "seconds"),
                  ("loss", self.loss, 1.0, "as a share"), ("rate_bps", self.rate_bps, MAX_RATE_BPS, "bits a second"))
        for name, value, most, unit in bounds:
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if not (number and 0 <= value <= most):
                raise WrongInput(f"{name} of a line between regions is {value!r}; it must be from 0 to {most:g} {unit}.")
        if not isinstance(self.cut, bool):
            raise WrongInput(f"cut of a line between regions is {self.cut!r}; it must be true or false.")

    def to_json(self) -> dict[str, Any]:
        """Return the line as plain JSON values."""
        return {"delay_s": self.delay_s, "jitter_s": self.jitter_s, "loss": self.loss, "rate_bps": self.rate_bps, "cut": self.cut}


@dataclass
class Way:
    """A line in use: what it did so far, and when it is free again. `waiting` is in bytes; the owner counts them out."""

    line: Line
    packets: int = 0
    bytes: int = 0
    lost: int = 0
    waiting: int = 0
    _free_s: float = 0.0
    _last_s: float = 0.0

    def enter(self, now_s: float, size: int, chance: float, spread: float) -> float | None:
        """Return when a packet of `size` bytes comes out, None: never. `chance`, `spread`: drawn evenly from [0, 1)."""
        line = self.line
        if line.cut or chance < line.loss or self.waiting + size > MAX_WAITING_BYTES:
            self.lost += 1
            return None
        self.packets += 1
        self.bytes += size
        begins_s = max(now_s, self._free_s)
        self._free_s = begins_s + (size * 8 / line.rate_bps if line.rate_bps else 0.0)
        self._last_s = max(self._last_s, self._free_s + line.delay_s + line.jitter_s * spread)
        return self._last_s
