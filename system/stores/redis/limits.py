"""LimitStore on a separate Redis: one Lua call per request (`lua/limits/take.lua`), by the server's clock.

It connects on first use, so a gateway can start while the server is down. The timeout is short: the caller
has a client request pending and another way to decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from system.kernel.resilience.rate_window import SLOTS, Quota, QuotaState
from system.kernel.settings import Settings
from system.stores.redis.base import clear, keys
from system.stores.redis.link import LUA, Arg, Link

TIMEOUT_S = 0.25  # a take needs about 0.2 ms; on two busy cores a process may wait about 50 ms for the CPU
PROBE = "r:probe"  # the key that gateways use to probe whether the server answers
SLICE = 500       # counters written per call


class RedisLimits:
    """Counters in Redis. Shared by all tasks of one event loop."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self.link = link
        self._settings = settings

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return the counters. Connects on first use."""
        timeout_s = min(TIMEOUT_S, settings.policies.deadline.store_s)
        return cls(Link(settings, settings.stores.limits, timeout_s, LUA / "limits"), settings)

    async def close(self) -> None:
        """Close the connection. Safe to repeat."""
        await self.link.close()

    async def take(self, quotas: Sequence[Quota], window_s: float) -> QuotaState:
        args: list[Arg] = []
        for quota in quotas:
            args += (f"r:{quota.key}", quota.limit)
        reply = await self.link.script("take", round(window_s * 1e3), SLOTS, *args)
        admitted, limit, remaining, reset_ms, wait_ms = reply
        return QuotaState(admitted == 1, limit, remaining, reset_ms / 1e3, wait_ms / 1e3)

    async def add(self, counted: Mapping[str, int], window_s: float) -> None:
        rows = list(counted.items())
        for first in range(0, len(rows), SLICE):
            args: list[Arg] = []
            for key, count in rows[first:first + SLICE]:
                args += (f"r:{key}", count)
            await self.link.script("add", round(window_s * 1e3), SLOTS, *args)

    async def held(self) -> int:
        """Return the number of callers' counters in this namespace, without the probe key of the gateways."""
        slow_link = Link(self._settings, self._settings.stores.limits, None, LUA / "limits")
        try:
            own = f"{slow_link.prefix}{PROBE}".encode()
            return sum(key != own for key in await keys(slow_link, "r:*"))
        finally:
            await slow_link.close()

    async def clear(self) -> None:
        """Delete all counters of this namespace and nothing else.

        Uses the stores' longer timeout: no client request waits.
        """
        slow_link = Link(self._settings, self._settings.stores.limits, None, LUA / "limits")
        try:
            await clear(slow_link, "r:*")
        finally:
            await slow_link.close()
