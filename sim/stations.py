"""What a process records, how its costs change with load, and how fast a core is: what both engines do in the same way."""

from __future__ import annotations

import math
from collections.abc import Iterator


class Tally:
    """Counters of a station for the queueing laws.

    `area_ns`: integral of the number inside over time, in job-nanoseconds; `sojourn_ns`: sum of all sojourns.
    """

    __slots__ = ("area_ns", "arrivals", "completions", "inside", "lost", "since_ns", "sojourn_ns")

    def __init__(self) -> None:
        self.arrivals = self.completions = self.lost = self.inside = 0
        self.area_ns = self.sojourn_ns = self.since_ns = 0

    def enter(self, now_ns: int) -> None:
        """Count one arrival."""
        self.area_ns += self.inside * (now_ns - self.since_ns)
        self.since_ns = now_ns
        self.inside += 1
        self.arrivals += 1

    def leave(self, now_ns: int, arrived_ns: int, *, lost: bool = False) -> None:
        """Count one departure of a job that arrived at `arrived_ns`."""
        self.area_ns += self.inside * (now_ns - self.since_ns)
        self.since_ns = now_ns
        self.inside -= 1
        self.sojourn_ns += now_ns - arrived_ns
        if lost:
            self.lost += 1
        else:
            self.completions += 1


class Amortization:
    """Work gets cheaper with load: one wake-up serves several requests, and caches stay warm.

    A unit of work costs (w / `reference`)^-`exponent` of its nominal demand, w being the process' own nominal work
    (CPU seconds per second) over about `AVERAGE_S`. Below `lowest` and above `highest`, the range in which it was
    measured, the factor stays constant. `least`: the factor at `highest`. `beyond_s`: time above it; `most`: the highest
    work rate.
    """

    AVERAGE_S = 1.0
    EVERY_S = 0.1

    __slots__ = ("_factor", "_rate", "_since", "_work_s", "beyond_s", "exponent", "highest", "least", "lowest", "most",
                 "reference")  # fmt: skip

    def __init__(self, exponent: float, reference: float, lowest: float, highest: float) -> None:
        self.exponent, self.reference, self.lowest, self.highest = exponent, reference, lowest, highest
        self._rate = self._since = self._work_s = 0.0
        self.beyond_s = self.most = 0.0
        self._factor, self.least = self.at(lowest), self.at(highest)

    def copy(self) -> Amortization:
        """Return the same law for another process of the same kind."""
        return Amortization(self.exponent, self.reference, self.lowest, self.highest)

    def at(self, rate: float) -> float:
        """Return the factor at a constant work rate."""
        return float((min(max(rate, self.lowest), self.highest) / self.reference) ** -self.exponent)

    def factor(self, now_s: float, demand_s: float) -> float:
        """Count `demand_s` seconds of nominal work and return the factor on it."""
        self._work_s += demand_s
        elapsed = now_s - self._since
        if elapsed >= self.EVERY_S:
            weight = math.exp(-elapsed / self.AVERAGE_S)
            self._rate = self._rate * weight + self._work_s / elapsed * (1.0 - weight)
            self._since, self._work_s = now_s, 0.0
            self._factor = self.at(self._rate)
            self.most = max(self.most, self._rate)
            if self._rate > self.highest:
                self.beyond_s += elapsed
        return self._factor


class Pace:
    """The changing speed of one core of a virtual machine: it is fast or slow for exponentially distributed times.

    All CPU is counted at mean speed. `factor(now)`: what a nanosecond of CPU at mean speed takes, in parts of UNIT. `draws`:
    exponential draws of mean 1. See `sim.speed.CoreSpeed` for the rest.
    """

    UNIT = 1 << 20

    def __init__(self, slow: float, share: float, changes_per_s: float, draws: Iterator[float]) -> None:
        fast = 1.0 / (1.0 - share + share * slow)
        self.factors = (round(fast * self.UNIT), round(fast * slow * self.UNIT))
        self.mean_ns = (round(1e9 / (changes_per_s * share)), round(1e9 / (changes_per_s * (1.0 - share))))
        self.draws = draws
        self._slow = False
        self.until_ns = int(next(draws) * self.mean_ns[0] + 0.5)

    def factor(self, now_ns: int) -> int:
        """Return the factor at `now_ns`, which must not decrease from call to call."""
        while self.until_ns <= now_ns:
            self._slow = not self._slow
            self.until_ns += int(next(self.draws) * self.mean_ns[self._slow] + 0.5)
        return self.factors[self._slow]
