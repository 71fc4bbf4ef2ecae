"""When to try again: a schedule with full jitter, and a budget that keeps retries from becoming the load.

Pure: the caller gives the random draw and does the waiting. The services and the twin use the same functions.

Full jitter (each pause even between 0 and its bound) spreads clients that failed together; the bound doubles. The
budget is a bucket of tokens: every first try puts `budget` tokens in, every retry takes one out. So
retries stay below that fraction of the traffic however much fails.
"""

from __future__ import annotations

from system.kernel.policies import RetryKnobs

RESERVE = 10.0  # tokens a bucket holds at most, and has at the start: lets a quiet client retry at all


def bound_s(attempt: int, knobs: RetryKnobs) -> float:
    """Return the longest pause, in seconds, before try number `attempt` + 1 (the first try is number 1)."""
    return min(knobs.max_s, knobs.base_s * 2.0 ** min(attempt - 1, 30))


def pause_s(attempt: int, knobs: RetryKnobs, draw: float) -> float:
    """Return the pause after try number `attempt` failed. `draw`: even in [0, 1)."""
    return bound_s(attempt, knobs) * draw


class Budget:
    """Tokens for retries."""

    def __init__(self, knobs: RetryKnobs) -> None:
        self._rate = knobs.budget
        self._tokens = RESERVE if knobs.budget else 0.0
        self.refused = 0

    def first_try(self) -> None:
        """A request is tried for the first time."""
        self._tokens = min(RESERVE, self._tokens + self._rate)

    def take(self) -> bool:
        """May a retry be made now? It is paid for if so."""
        if self._tokens < 1.0:
            self.refused += 1
            return False
        self._tokens -= 1.0
        return True
