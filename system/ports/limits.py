"""Counters of rate limits: a Redis of their own. They may be lost; they are never evicted one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from system.kernel.resilience.rate_window import Quota, Standing

__all__ = ["LimitStore", "Quota", "Standing"]


class LimitStore(Protocol):
    """Moving windows shared by all gateways. One clock: that of the server. The sums: `kernel/resilience/rate_window.py`."""

    async def take(self, quotas: Sequence[Quota], window_s: float) -> Standing:
        """Count one request under every key in one atomic step, or under none where one of them is full. One round trip."""
        ...

    async def add(self, counted: Mapping[str, int], window_s: float) -> None:
        """Count requests that were admitted elsewhere, whatever the limit. Not idempotent: a repeat counts again."""
        ...
