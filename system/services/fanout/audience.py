"""Cached facts about authors: their modes for half a second, their audience sizes since the last push.

A stale entry breaks no guarantee: an author who is pushed needlessly costs only the pushes, and one who is no
longer pushed was pulled before, so readers still merge them. Only the moment of a crossing moves.

This relies on modes never being removed: readers keep merging an author who was ever pulled, because tweets
from the pulled time are in no cached home list. If PostgreSQL was restored from a backup or emptied, such an
author may be missing. The worker that detects this deletes every cached list (`on_replaced`), after the last
decision by the previous modes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from system.ports import TweetCache, UserDirectory
from system.services.fanout import policy
from system.services.shared.change_feed import ChangeFeed

MODES_TTL_S = 0.5     # seconds; at most one query each half second, whatever the load
MAX_AUTHORS = 100_000

_log = logging.getLogger("tweetlab")


class Audience:
    """Modes of authors and sizes of audiences, as fresh as needed.

    `hot`: source of the change feed, None for none.

    `on_replaced`: called when the database lacks modes that were there before.
    """

    def __init__(self, users: UserDirectory, now: Callable[[], float] = time.monotonic,
                 hot: TweetCache | None = None,
                 on_replaced: Callable[[], Awaitable[None]] | None = None) -> None:
        self._users, self._on_replaced = users, on_replaced
        self._now = now
        self._modes: dict[int, policy.AuthorMode] = {}
        self._modes_s = float("-inf")
        self._reading = asyncio.Lock()
        self._sizes: dict[int, tuple[float, int]] = {}
        self._changes = ChangeFeed(hot, self._invalidate) if hot is not None else None

    async def mode(self, author_id: int) -> policy.AuthorMode | None:
        """Return the author's durable mode; None if the author was never pulled."""
        if self._now() - self._modes_s > MODES_TTL_S:
            async with self._reading:  # so that a later read never returns less than an earlier one
                if self._now() - self._modes_s > MODES_TTL_S:
                    await self._read_modes()
        return self._modes.get(author_id)

    async def _read_modes(self) -> None:
        started_s = self._now()
        rows = await self._users.modes()
        modes = {row.author_id: policy.AuthorMode(row.mode, row.changed_ms) for row in rows}
        lost = policy.lost_modes(self._modes, modes)
        if lost and self._on_replaced is not None:
            _log.error("PostgreSQL was replaced: %d modes are missing; deleting all cached lists", len(lost))
            await self._on_replaced()
        self._modes, self._modes_s = modes, started_s

    def expire_modes(self) -> None:
        """Read the modes again at the next use: one was changed."""
        self._modes_s = float("-inf")

    async def size(self, author_id: int) -> int:
        """Return the number of followers: the count of the last push, else the maintained counter."""
        if self._changes is not None:
            await self._changes.refresh()
        known = self._sizes.get(author_id)
        if known is not None and self._now() - known[0] < policy.AUDIENCE_TTL_S:
            return known[1]
        size = await self._users.audience(author_id)
        self.record_size(author_id, size)
        return size

    def _invalidate(self, changed: frozenset[int] | None) -> None:
        if changed is None:
            self._sizes.clear()
            self.expire_modes()
        for author_id in changed or ():
            self._sizes.pop(author_id, None)

    def record_size(self, author_id: int, size: int) -> None:
        """Cache the number of followers that a push has just counted."""
        if len(self._sizes) >= MAX_AUTHORS:
            self._sizes.clear()
        self._sizes[author_id] = (self._now(), size)
