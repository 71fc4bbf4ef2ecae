"""The feed of changed users, with which a process invalidates cached users before their TTL ends.

Redis is polled at most once per `EVERY_S`, independent of the load. While it does not respond, no change is
reported, and cached entries live until their TTL. So the TTL bounds the staleness; the feed only shortens it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from system.kernel.errors import StoreUnavailable
from system.ports import TweetCache

EVERY_S = 1.0

Invalidate = Callable[[frozenset[int] | None], None]
"""Called with the users that changed; None: any user may have changed."""


class ChangeFeed:
    """The feed of one process; `invalidate` is called for each batch of changes."""

    def __init__(self, hot: TweetCache, invalidate: Invalidate, now: Callable[[], float] = time.monotonic) -> None:
        self._hot, self._invalidate, self._now = hot, invalidate, now
        self._mark = -1
        self._polled_s = float("-inf")
        self._polling: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Apply all changes that are older than `EVERY_S`; concurrent callers share one poll."""
        if self._now() - self._polled_s < EVERY_S:
            return
        if self._polling is None or self._polling.done():
            self._polling = asyncio.ensure_future(self._poll())
        await asyncio.shield(self._polling)

    async def _poll(self) -> None:
        started_s = self._now()
        try:
            mark, changed = await self._hot.changes(self._mark)
        except StoreUnavailable:
            self._polled_s = started_s  # no change is reported: cached entries live until their TTL
            return
        if changed is None or changed:
            self._invalidate(changed)
        self._mark, self._polled_s = mark, started_s
