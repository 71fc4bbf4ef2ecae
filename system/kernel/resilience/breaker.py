"""A circuit breaker as a state machine without a clock. The services and the twin use the same code.

    CLOSED --`failures` in a row--> OPEN --`open_s` later--> HALF_OPEN --success--> CLOSED
                                      ^------------ failure ----------'

Closed: every call is allowed. Open: no call is allowed; the caller fails immediately instead of waiting.
Half-open: one trial call is allowed; its outcome closes or opens the breaker. Times are monotonic seconds
that the caller passes in.
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


IS_CLOSED, IS_HALF_OPEN, IS_OPEN = 0, 1, 2
"""The states as numbers."""
BY_NUMBER = (State.CLOSED, State.HALF_OPEN, State.OPEN)


def admit(state: int, until_s: float, now_s: float) -> tuple[bool, int]:
    """Return (whether a call is allowed, the state after it). The twin compiles this function."""
    if state == IS_CLOSED:
        return True, state
    if state == IS_HALF_OPEN or now_s < until_s:
        return False, state
    return True, IS_HALF_OPEN


def after_failure(state: int, failures: int, until_s: float, now_s: float, limit: int, open_s: float) -> tuple[int, float]:
    """Return (state, until when it is open) after `failures` in a row. The twin compiles this function.

    `limit`: of failures; 0: it never opens.
    """
    if limit and (state == IS_HALF_OPEN or failures >= limit):
        return IS_OPEN, now_s + open_s
    return state, until_s


class Breaker:
    """The breaker of one dependency.

    `opened`: number of times it opened since its creation. `failures`: consecutive failures so far.
    """

    def __init__(self, knobs: BreakerKnobs) -> None:
        self._knobs = knobs
        self.failures = 0
        self._until_s = 0.0
        self.state = State.CLOSED
        self.opened = 0

    def allows(self, now_s: float) -> bool:
        """Return whether a call is allowed; an open breaker becomes half-open after `open_s`.

        The caller must report the outcome of every allowed call: `succeeded`, `failed` or `abandoned`.
        """
        if self.state is State.CLOSED:
            return True
        allowed, number = admit(self.state.number, self._until_s, now_s)
        self.state = BY_NUMBER[number]
        return allowed

    def succeeded(self) -> None:
        """Record a call to which the dependency responded.

        Ignored while the breaker is open: the call started before it opened, and only the trial call closes
        it.
        """
        if self.state is State.OPEN:
            return
        self.failures = 0
        self.state = State.CLOSED

    def failed(self, now_s: float) -> None:
        """Record a call without a response. If the knob `failures` is 0, the breaker never opens."""
        self.failures += 1
        number, self._until_s = after_failure(self.state.number, self.failures, self._until_s, now_s, self._knobs.failures,
                                              self._knobs.open_s)
        self.opened += number == IS_OPEN and self.state is not State.OPEN
        self.state = BY_NUMBER[number]

    def abandoned(self) -> None:
        """Record a call whose caller gave up early. If it was the trial call, the next call is one."""
        if self.state is State.HALF_OPEN:
            self.state = State.OPEN

    def retry_after_s(self, now_s: float) -> float:
        """Return the seconds until a trial call is allowed; 0 if one is allowed now."""
        return max(0.0, self._until_s - now_s)
