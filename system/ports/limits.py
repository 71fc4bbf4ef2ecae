"""Rate limit counters: a dedicated Redis. They may be lost; they are never evicted individually."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from system.kernel.resilience.rate_window import Quota, QuotaState

__all__ = ["LimitStore", "Quota", "QuotaState"]


class LimitStore(Protocol):
    """Sliding windows shared by all gateways.

    Uses the server's clock. Algorithm: `kernel/resilience/rate_window.py`.
    """

    async def take(self, quotas: Sequence[Quota], window_s: float) -> QuotaState:
        """Count one request under every key in one atomic step, or under none if one is at its limit.

        One round trip.
        """
        ...

    async def add(self, counted: Mapping[str, int], window_s: float) -> None:
        """Count requests that were admitted elsewhere, regardless of the limit.

        Not idempotent: a repeat counts again.
        """
        ...
