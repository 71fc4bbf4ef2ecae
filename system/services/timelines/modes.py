"""The readers' view of which authors are pulled: never older than `mode_ttl_s`, or no page at all.

Fan-out stops pushing an author only after his flag is older than this view can be (`fanout.policy`), so a
reader must not use an older one. The view is refreshed well before it expires; while PostgreSQL does not answer it
serves until its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from system.kernel.errors import StoreUnavailable
from system.ports import UserDirectory

REFRESH_AT = 0.25  # of the TTL: leaves three quarters of it to ride over a restart of PostgreSQL


class Modes:
    """All authors that are or were pulled, as of at most `ttl_s` ago. One query per refresh, whatever the load."""

    def __init__(self, users: UserDirectory, ttl_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._ttl_s = ttl_s
        self._now = now
        self._pulled: tuple[int, ...] = ()
        self._read_s = float("-inf")
        self._refresh: asyncio.Task[None] | None = None

    async def pulled(self) -> tuple[int, ...]:
        """Return the authors whom every reader merges. Raises StoreUnavailable where no young enough view can be had."""
        age_s = self._now() - self._read_s
        if age_s < self._ttl_s * REFRESH_AT:
            return self._pulled
        refresh = self._start()
        if age_s >= self._ttl_s:
            await asyncio.shield(refresh)
            if self._now() - self._read_s >= self._ttl_s:
                raise StoreUnavailable(f"The pulled authors could not be read within {self._ttl_s} s; retry.", definite=True,
                                       retry_after_s=1.0)
        return self._pulled

    def _start(self) -> asyncio.Task[None]:
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.ensure_future(self._read())
            self._refresh.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refresh

    async def _read(self) -> None:
        began_s = self._now()  # the view is as old as the begin of its read
        modes = await self._users.modes()
        self._pulled = tuple(sorted(mode.author_id for mode in modes if mode.pulled_once))
        self._read_s = began_s
