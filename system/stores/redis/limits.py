"""LimitStore on a Redis of its own: one Lua call a request (`lua/limits/take.lua`), by the server's clock.

It connects at first use, so a gateway starts while the server is away. Silence is answered soon: whoever asks has a request
in hand and another way to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from system.kernel.resilience.rate_window import SLOTS, Quota, Standing
from system.kernel.settings import Settings
from system.stores.redis.base import clear, keys
from system.stores.redis.link import LUA, Arg, Link

SILENCE_S = 0.25  # a take needs about 0.2 ms; on two busy cores a process may wait some 50 ms for its turn
PROBE = "r:probe"  # what gateways ask for to see whether the server answers
SLICE = 500       # counters written by one call


class RedisLimits:
    """Counters in Redis. Shared by all tasks of one event loop."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self.link = link
        self._settings = settings

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return the counters. Connects at first use."""
        silence_s = min(SILENCE_S, settings.policies.deadline.store_s)
        return cls(Link(settings, settings.stores.limits, silence_s, LUA / "limits"), settings)

    async def close(self) -> None:
        """Close the connection. Safe to repeat."""
        await self.link.close()

    async def take(self, quotas: Sequence[Quota], window_s: float) -> Standing:
        asked: list[Arg] = []
        for quota in quotas:
            asked += (f"r:{quota.key}", quota.limit)
        reply = await self.link.script("take", round(window_s * 1e3), SLOTS, *asked)
        admitted, limit, remaining, reset_ms, wait_ms = reply
        return Standing(admitted == 1, limit, remaining, reset_ms / 1e3, wait_ms / 1e3)

    async def add(self, counted: Mapping[str, int], window_s: float) -> None:
        rows = list(counted.items())
        for first in range(0, len(rows), SLICE):
            told: list[Arg] = []
            for key, count in rows[first:first + SLICE]:
                told += (f"r:{key}", count)
            await self.link.script("add", round(window_s * 1e3), SLOTS, *told)

    async def held(self) -> int:
        """Return how many counters of callers this namespace has; gateways that start ask for one of their
        own.
        """
        patient = Link(self._settings, self._settings.stores.limits, None, LUA / "limits")
        try:
            own = f"{patient.prefix}{PROBE}".encode()
            return sum(key != own for key in await keys(patient, "r:*"))
        finally:
            await patient.close()

    async def clear(self) -> None:
        """Forget all counters of this namespace, and nothing else. Has the patience of other stores: nobody waits at a door."""
        patient = Link(self._settings, self._settings.stores.limits, None, LUA / "limits")
        try:
            await clear(patient, "r:*")
        finally:
            await patient.close()
