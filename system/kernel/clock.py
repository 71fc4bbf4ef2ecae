"""Time as an injected dependency, so that a test can control it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the system needs from a clock."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970 by the wall clock. May step."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC: comparable between processes of one machine, never steps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class FakeClock:
    """A clock that moves only by `advance` and `step_wall`, or when a task sleeps on it."""

    def __init__(self, wall_ms: int = 1_800_000_000_000) -> None:
        self._wall_ms = float(wall_ms)
        self._monotonic_ns = 0.0

    def wall_ms(self) -> int:
        return int(self._wall_ms)

    def monotonic_ns(self) -> int:
        return int(self._monotonic_ns)

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._wall_ms += seconds * 1e3
        self._monotonic_ns += seconds * 1e9

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as a faulty time daemon does. A negative value steps back."""
        self._wall_ms += seconds * 1e3
