"""The gateway's breaker, retry schedule and retry budget in the twin: the kernel's own."""

from __future__ import annotations

from collections.abc import Callable

from sim.jobs import GATEWAY_TIMEOUT, REFUSED, UNAVAILABLE
from system.kernel.policies import Policies
from system.kernel.resilience import retry
from system.kernel.resilience.breaker import Breaker
from system.services.gateway import policy as gateway_policy


class ServiceGuard:
    """The gateway's calls to one service: one breaker and one retry budget, as in the gateway itself.

    Implements `sim.jobs.Guard`.
    """

    def __init__(self, policies: Policies) -> None:
        self.breaker = Breaker(policies.breaker)
        self._retry = policies.retry
        self._budget = retry.Budget(policies.retry)

    @property
    def tokens(self) -> float:
        """The tokens of its retry budget."""
        return self._budget.tokens

    def admit(self, now_s: float, attempt: int) -> bool:
        """Return whether the breaker lets this attempt pass; the first one adds to the retry budget."""
        if attempt == 1:
            self._budget.first_try()
        return self.breaker.allows(now_s)

    def succeeded(self, _now_s: float) -> None:
        """Record that the service answered."""
        self.breaker.succeeded()

    def failed(self, now_s: float, attempt: int, idempotent: bool, status: int, draw: Callable[[], float]) -> float | None:
        """Record a failed call; return the pause until the next attempt, None for no more.

        `draw()`: uniform in (0, 1), for the jitter.
        A 503 of the service is a response; the breaker counts calls without one, even if the mesh responded.
        """
        answered = status in (UNAVAILABLE, REFUSED) or status < UNAVAILABLE
        if answered:
            self.breaker.succeeded()
        else:
            self.breaker.failed(now_s)
        method = "GET" if idempotent else "POST"
        reply = UNAVAILABLE if status == REFUSED else status if answered else None
        may_retry = gateway_policy.may_retry(method, reply, attempt, self._retry.attempts, status == REFUSED)
        if not may_retry or status == GATEWAY_TIMEOUT or not self._budget.take():
            return None
        return retry.pause_s(attempt, self._retry, draw())
