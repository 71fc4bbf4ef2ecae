"""What the fan-out knows of authors without asking each time: modes for a second, audiences from the last push.

Neither can break a promise when it is old: an author who is wrongly pushed is pushed in vain, and one who is no longer
pushed was pulled before, so readers still merge him. Only the moment of a crossing moves.

That rests on modes that are never removed: readers go on merging an author who was ever pulled, because
tweets of the pulled days are in no cached home list. Where PostgreSQL was restored from a backup or emptied,
such an author may be missing. Whoever sees that deletes every cached list (`replaced`), after the last
decision by the modes of before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from system.ports import TweetCache, UserDirectory
from system.services.fanout import policy
from system.services.shared.change_feed import ChangeFeed

MODES_TTL_S = 0.5     # seconds; a query each half second at most, whatever the load
MAX_AUTHORS = 100_000

_log = logging.getLogger("tweetlab")


class Audience:
    """PulledAuthors and sizes of audiences, as young as needed."""

    def __init__(self, users: UserDirectory, now: Callable[[], float] = time.monotonic,
                 hot: TweetCache | None = None,
                 replaced: Callable[[], Awaitable[None]] | None = None) -> None:
        self._users, self._replaced = users, replaced
        self._now = now
        self._standing: dict[int, policy.Standing] = {}
        self._modes_s = float("-inf")
        self._reading = asyncio.Lock()
        self._sizes: dict[int, tuple[float, int]] = {}
        self._news = ChangeFeed(hot, self._forget) if hot is not None else None

    async def standing(self, author_id: int) -> policy.Standing | None:
        """Return the author's durable mode, None where he never was anything but pushed."""
        if self._now() - self._modes_s > MODES_TTL_S:
            async with self._reading:  # so that a later reading never shows less than an earlier one
                if self._now() - self._modes_s > MODES_TTL_S:
                    await self._read_modes()
        return self._standing.get(author_id)

    async def _read_modes(self) -> None:
        began_s = self._now()
        modes = await self._users.modes()
        found = {mode.author_id: policy.Standing(mode.mode, mode.changed_ms) for mode in modes}
        lost = policy.lost_modes(self._standing, found)
        if lost and self._replaced is not None:
            _log.error("PostgreSQL was replaced: %d modes are missing; all cached lists go", len(lost))
            await self._replaced()
        self._standing, self._modes_s = found, began_s

    def forget_modes(self) -> None:
        """Read the modes again next time: one was changed."""
        self._modes_s = float("-inf")

    async def size(self, author_id: int) -> int:
        """Return the number of followers: as the last push counted them, else the maintained counter."""
        if self._news is not None:
            await self._news.heard()
        known = self._sizes.get(author_id)
        if known is not None and self._now() - known[0] < policy.AUDIENCE_TTL_S:
            return known[1]
        size = await self._users.audience(author_id)
        self.learned(author_id, size)
        return size

    def _forget(self, changed: frozenset[int] | None) -> None:
        if changed is None:
            self._sizes.clear()
            self.forget_modes()
        for author_id in changed or ():
            self._sizes.pop(author_id, None)

    def learned(self, author_id: int, size: int) -> None:
        """A push has just counted the followers."""
        if len(self._sizes) >= MAX_AUTHORS:
            self._sizes.clear()
        self._sizes[author_id] = (self._now(), size)
