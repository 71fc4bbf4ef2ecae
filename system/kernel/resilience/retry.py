"""When to retry: a schedule with full jitter, and a retry budget that prevents retry storms.

Pure: the caller passes in the random draw and does the waiting. The services and the twin use the same
functions.

Full jitter (each backoff uniform between 0 and its bound) spreads clients that failed together; the bound
doubles. The budget is a token bucket: every first try adds `budget` tokens, every retry takes one. So retries
stay below that fraction of the traffic regardless of the failure rate.
"""

from __future__ import annotations

from system.kernel.policies import RetryKnobs

RESERVE = 10.0  # capacity and initial level of the bucket, in tokens, so that a client with little traffic can retry


def bound_s(attempt: int, knobs: RetryKnobs) -> float:
    """Return the longest backoff, in seconds, after failed try number `attempt` (the first is 1)."""
    return longest_s(attempt, knobs.base_s, knobs.max_s)


def pause_s(attempt: int, knobs: RetryKnobs, draw: float) -> float:
    """Return the backoff, in seconds, after try number `attempt` failed. `draw`: uniform in [0, 1)."""
    return bound_s(attempt, knobs) * draw


def longest_s(attempt: int, base_s: float, max_s: float) -> float:
    """Return the longest backoff after try number `attempt`, seconds. The twin compiles this function."""
    return min(max_s, base_s * 2.0 ** min(attempt - 1, 30))


def refilled(tokens: float, rate: float) -> float:
    """Return the tokens of a budget after a first try. The twin compiles this function."""
    return min(RESERVE, tokens + rate)


def spent(tokens: float) -> float:
    """Return the tokens after a retry took one, NONE_LEFT if there was none. The twin compiles this function."""
    return tokens - 1.0 if tokens >= 1.0 else NONE_LEFT


NONE_LEFT = -1.0


class Budget:
    """The retry budget: a bucket of `tokens`. `refused`: retries denied so far."""

    def __init__(self, knobs: RetryKnobs) -> None:
        self._rate = knobs.budget
        self.tokens = RESERVE if knobs.budget else 0.0
        self.refused = 0

    def first_try(self) -> None:
        """Record the first try of a request."""
        self.tokens = refilled(self.tokens, self._rate)

    def take(self) -> bool:
        """Take a token for one retry. Return False if none is left."""
        left = spent(self.tokens)
        if left == NONE_LEFT:
            self.refused += 1
            return False
        self.tokens = left
        return True
