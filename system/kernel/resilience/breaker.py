"""A circuit breaker as a state machine without a clock. The services and the twin use the same one.

    CLOSED --`failures` in a row--> OPEN --`open_s` later--> HALF_OPEN --success--> CLOSED
                                      ^------------ failure ----------'

Closed: every call passes. Open: no call passes; the caller fails immediately instead of waiting. Half-open:
one trial call passes; its outcome decides. Times are monotonic seconds that the caller passes in.
"""

from __future__ import annotations

import enum

from system.kernel.policies import BreakerKnobs


class State(enum.StrEnum):
    """The state of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"

    @property
    def number(self) -> int:
        """Return the state as metrics report it: 0 closed, 1 half-open, 2 open."""
        return {"closed": 0, "half-open": 1, "open": 2}[self.value]


class Breaker:
    """One dependency's breaker.

    `opened`: how often it opened since the process started. `failures`: consecutive failures.
    """

    def __init__(self, knobs: BreakerKnobs) -> None:
        self._knobs = knobs
        self.failures = 0
        self._until_s = 0.0
        self.state = State.CLOSED
        self.opened = 0

    def allows(self, now_s: float) -> bool:
        """Return whether a call may pass.

        Every allowed call must be followed by `succeeded`, `failed` or `abandoned`.
        """
        if self.state is State.CLOSED:
            return True
        if self.state is State.HALF_OPEN or now_s < self._until_s:
            return False
        self.state = State.HALF_OPEN
        return True

    def succeeded(self) -> None:
        """Record a call that was answered.

        While open it is ignored: the call started earlier, and the trial decides.
        """
        if self.state is State.OPEN:
            return
        self.failures = 0
        self.state = State.CLOSED

    def failed(self, now_s: float) -> None:
        """Record a call that was not answered. `failures` 0 in the knobs: the breaker never opens."""
        self.failures += 1
        if not self._knobs.failures:
            return
        if self.state is State.HALF_OPEN or self.failures >= self._knobs.failures:
            if self.state is not State.OPEN:
                self.opened += 1
            self.state = State.OPEN
            self._until_s = now_s + self._knobs.open_s

    def abandoned(self) -> None:
        """Record a call whose caller gave up before the outcome was known. The next call repeats a trial."""
        if self.state is State.HALF_OPEN:
            self.state = State.OPEN

    def retry_after_s(self, now_s: float) -> float:
        """Return the seconds until a trial call may pass."""
        return max(0.0, self._until_s - now_s)
