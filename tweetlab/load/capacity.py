"""The highest sustainable request rate: bisection to 3 % over trials, each a warm run at one constant rate.

A rate is *carried* (sustained) if its run has goodput of at least 99 %, fewer than 0.5 % errors, no growth of
the queue, and meets every objective. Those are the verdicts of `reports.judge.objectives`, whose percentiles
include operations without a reply; shares are compared exactly (`scenarios.bounds`), and 429 responses under
the scenario's own limits count neither as planned nor as failed. The result is the highest rate that is
carried in all of its repeats. A void run says nothing about the rate: it is repeated, and the search ends
with an error if it stays void.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from reports.stats import digits
from scenarios import bounds
from system.kernel.errors import CouldNotRun

PRECISION = 0.03  # the bracket is closed when its ends are this close, as a fraction of the lower one
REPEATS = 3
GOODPUT, ERRORS = Decimal("0.99"), Decimal("0.005")
VOID_TRIES = 3  # void runs in a row at one rate that end the search
LEAST_PER_S = 1.0


@dataclass(frozen=True)
class TrialResult:
    """The outcome of one run at `rate_per_s`.

    `goodput`, `errors`: fractions of the offered load, in steady time.

    `grows`: the number in flight kept rising. `holds`: every objective was met. `void`: why the run is
    invalid, or "".
    """

    rate_per_s: float
    goodput: float
    errors: float
    grows: bool
    holds: bool
    void: str = ""

    @property
    def carried(self) -> bool:
        """Whether the system sustains this rate."""
        return not self.broken

    @property
    def broken(self) -> str:
        """Return the criteria that failed, as text; "" if the rate is carried."""
        criteria = [("void: " + self.void, not self.void),
                    (f"goodput {digits.distinct_text(self.goodput, float(GOODPUT), '{:.1%}'.format, 100, '%')}",
                     bounds.holds(self.goodput, ">=", GOODPUT)),
                    (f"errors {digits.distinct_text(self.errors, float(ERRORS), '{:.2%}'.format, 100, '%')}",
                     bounds.holds(self.errors, "<", ERRORS)),
                    ("the queue grew", not self.grows), ("an objective was missed", self.holds)]
        return ", ".join(text for text, holds in criteria if not holds)


@dataclass(frozen=True)
class Capacity:
    """`rate_per_s`: the highest rate carried in all repeats; 0 if none is.

    `refused_per_s`: the lowest rate above it that is not carried; None if the search reached its upper bound.
    """

    rate_per_s: float
    refused_per_s: float | None
    trials: tuple[TrialResult, ...]

    def explain(self) -> str:
        """Return the result in one line."""
        limit = next((trial.broken for trial in reversed(self.trials) if trial.rate_per_s == self.refused_per_s), "")
        above = f"; at {self.refused_per_s:.0f}/s: {limit}" if self.refused_per_s is not None else "; no rate was refused"
        return f"capacity {self.rate_per_s:.0f}/s ({len(self.trials)} runs{above})"


Trial = Callable[[float], Awaitable[TrialResult]]


async def find(trial: Trial, start_per_s: float, *, most_per_s: float = 100_000.0, repeats: int = REPEATS,
               precision: float = PRECISION, on_trial: Callable[[TrialResult], None] = lambda result: None) -> Capacity:
    """Search from `start_per_s` up or down; return the capacity. `on_trial` is called with each result.

    Raises CouldNotRun if the runs at one rate stay void.
    """
    return await _Search(trial, repeats, precision, on_trial).run(start_per_s, most_per_s)


class _Search:
    """`_carried`: rate -> number of consecutive successes; one failure resets it to 0."""

    def __init__(self, trial: Trial, repeats: int, precision: float, on_trial: Callable[[TrialResult], None]) -> None:
        self._trial, self._repeats, self._precision, self._on_trial = trial, repeats, precision, on_trial
        self._trials: list[TrialResult] = []
        self._carried: dict[float, int] = {}

    async def run(self, start_per_s: float, most_per_s: float) -> Capacity:
        low, high = await self._bracket(start_per_s, most_per_s)
        while low:
            low, high = await self._bisect(low, high)
            if await self._confirm(low):
                break
            high, low = low, await self._below(low)
        return Capacity(low, high, tuple(self._trials))

    async def _try(self, rate: float) -> bool:
        for _ in range(VOID_TRIES):
            result = await self._trial(rate)
            self._trials.append(result)
            self._on_trial(result)
            if not result.void:
                self._carried[rate] = self._carried.get(rate, 0) + 1 if result.carried else 0
                return result.carried
        raise CouldNotRun(f"{VOID_TRIES} runs at {rate:.0f}/s were void ({self._trials[-1].void}); "
                          "fix the cause, or measure on an idle machine.")

    async def _bracket(self, start: float, most: float) -> tuple[float, float | None]:
        """Double or halve until the lower end is carried and the upper one is not."""
        rate = min(start, most)
        if not await self._try(rate):
            return await self._below(rate), rate
        while rate < most:
            doubled = min(2 * rate, most)
            if not await self._try(doubled):
                return rate, doubled
            rate = doubled
        return rate, None

    async def _below(self, refused: float) -> float:
        """Return a carried rate below `refused`: the highest known one, else halve further; 0 if none is carried."""
        known = [rate for rate, times in self._carried.items() if times and rate < refused]
        if known:
            return max(known)
        rate = refused / 2
        while rate >= LEAST_PER_S:
            if await self._try(rate):
                return rate
            rate /= 2
        return 0.0

    async def _bisect(self, low: float, high: float | None) -> tuple[float, float | None]:
        while high is not None and high > low * (1 + self._precision):
            middle = (low * high) ** 0.5  # the precision is a ratio, so the middle is the geometric one
            if await self._try(middle):
                low = middle
            else:
                high = middle
        return low, high

    async def _confirm(self, rate: float) -> bool:
        while self._carried[rate] < self._repeats:
            if not await self._try(rate):
                return False
        return True


def trial_of(record: Mapping[str, Any], rate_per_s: float) -> TrialResult:
    """Return the trial result from the record of a run at `rate_per_s` (record.json)."""
    steady = record["summary"]["totals"]["steady"]
    refused = int(steady.get("refused", 0))
    offered = max(1, int(steady["planned"]) - refused)
    failed = int(steady["fail"]) + int(steady["info"]) - refused
    broken = [row for row in record["validity"]["criteria"] if row["holds"] is False]
    grows = any(row["kind"] == "overload" and "growth" in row["name"] for row in broken)
    void = "; ".join(f"{row['name']} {row['value']}, bound {row['bound']}" for row in broken if row["kind"] == "void")
    return TrialResult(rate_per_s, steady["ok"] / offered, failed / offered, grows,
                       all(row["verdict"].upper() == "PASS" for row in record["objectives"]), void)
