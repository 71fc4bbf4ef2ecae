"""A value that a process reads from the truth now and then, and never shows when it is older than it may be.

It is read again well before it expires; while the truth does not answer, the last one serves until its end, then callers
are refused. One read at a time, whatever the load.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from system.kernel.errors import StoreUnavailable

REFRESH_AT = 0.25  # of the TTL: three quarters of it are left to ride over a restart of PostgreSQL
T = TypeVar("T")


class View(Generic[T]):
    """What `read` returned last. `what`: the words of the refusal. `ttl_s`: greatest age, counted from the begin of the read."""

    def __init__(self, read: Callable[[], Awaitable[T]], first: T, what: str, ttl_s: float,
                 now: Callable[[], float] = time.monotonic) -> None:
        self._read, self._value, self._what, self._ttl_s, self._now = read, first, what, ttl_s, now
        self._read_s = float("-inf")
        self._refresh: asyncio.Task[None] | None = None

    async def get(self) -> T:
        """Return the value. Raises StoreUnavailable (definite) where no young enough one can be had, or what `read` raised."""
        age_s = self._now() - self._read_s
        if age_s < self._ttl_s * REFRESH_AT:
            return self._value
        refresh = self._start()
        if age_s >= self._ttl_s:
            await asyncio.shield(refresh)
            if self._now() - self._read_s >= self._ttl_s:
                raise StoreUnavailable(f"{self._what} could not be read within {self._ttl_s} s; retry.", definite=True,
                                       retry_after_s=1.0)
        return self._value

    def _start(self) -> asyncio.Task[None]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.ensure_future(self._again())
            self._refresh.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refresh

    async def _again(self) -> None:
        began_s = self._now()  # the view is as old as the begin of its read
        self._value = await self._read()
        self._read_s = began_s
