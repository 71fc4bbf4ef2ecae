"""A cached value that is never returned once it is older than its TTL.

A call refreshes the value long before it expires. While the source does not respond, the last value is
returned until its TTL ends; after that, calls fail. At most one read is in progress, independent of the load.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from system.kernel.errors import StoreUnavailable

REFRESH_AT = 0.25  # fraction of the TTL; the other three quarters bridge a restart of PostgreSQL
T = TypeVar("T")


class TtlValue(Generic[T]):
    """Caches the result of `read`.

    `what`: names the value in errors. `ttl_s`: maximum age, counted from the start of the read.
    """

    def __init__(self, read: Callable[[], Awaitable[T]], first: T, what: str, ttl_s: float,
                 now: Callable[[], float] = time.monotonic) -> None:
        self._read, self._value, self._what, self._ttl_s, self._now = read, first, what, ttl_s, now
        self._read_s = float("-inf")
        self._refresh: asyncio.Task[None] | None = None

    async def get(self) -> T:
        """Return the value.

        Raises StoreUnavailable (definite) if none younger than the TTL can be read, or what `read` raises.
        """
        age_s = self._now() - self._read_s
        if age_s < self._ttl_s * REFRESH_AT:
            return self._value
        refresh = self._start_refresh()
        if age_s >= self._ttl_s:
            await asyncio.shield(refresh)
            if self._now() - self._read_s >= self._ttl_s:
                raise StoreUnavailable(f"{self._what} could not be read within {self._ttl_s} s; retry.", definite=True,
                                       retry_after_s=1.0)
        return self._value

    def _start_refresh(self) -> asyncio.Task[None]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.ensure_future(self._read_again())
            self._refresh.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refresh

    async def _read_again(self) -> None:
        started_s = self._now()  # the value is as old as the start of its read
        self._value = await self._read()
        self._read_s = started_s
