"""Building cached lists from the truth, once at a time for each list.

    begin (the key is *building*, with our token)  ->  read the truth  ->  complete (only while the token stands)

What happens between begin and complete is added to the building key by whoever does it; what was there before
begin is in the truth that is read after it. So nothing falls between. A removal deletes the key: the
token is lost, and the build starts again from a fresh read.

Within a process callers of one list wait for one build. They must read the *list* afterwards, not
share what the build read: it may have read before their own begin.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from system.kernel import checkpoints
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.policies import TimelineKnobs
from system.ports import Entry, Kind, TimelineCache, TweetCache, TweetStore, UserDirectory
from system.services.shared.read_through import CacheHits

MAX_ATTEMPTS = 4      # builds in a row that may lose their token before the caller reads the truth itself
AUTHOR_READS = 32     # author partitions read at once in a process; 2 cores do about 4,000/s, so 8 ms of work
KEPT = 20             # newest tweets of an author that go into the hot cache when his rows are read: one page of him alone
USERS_PAGE = 10_000   # edges read from PostgreSQL at once

NAMES = {Kind.HOME: "timelines", Kind.AUTHOR: "author_timelines", Kind.FOLLOWERS: "followers", Kind.FOLLOWING: "following"}

Content = tuple[list[Entry], int]
"""(entries, floor)"""


class CachedLists:
    """Cached lists of one process: authors' tweets, followers, followings."""

    def __init__(self, cache: TimelineCache, hot: TweetCache, tweets: TweetStore, users: UserDirectory,
                 knobs: TimelineKnobs, coalesce: bool = True) -> None:
        self.cache = cache
        self._hot = hot
        self._tweets = tweets
        self._users = users
        self._knobs = knobs
        self._building: dict[tuple[Kind, int], asyncio.Task[bool]] = {}
        self._author_reads = asyncio.Semaphore(AUTHOR_READS)
        self._coalesce = coalesce
        self._looks = {kind: CacheHits(name) for kind, name in NAMES.items()}

    async def ensure(self, kind: Kind, owner: int) -> bool:
        """Build an absent list. False where another process is building it, or its token was lost too often.

        True does not promise that the list still stands: read it, and go to the truth where it does not.
        """
        reads: dict[Kind, Callable[[int], Awaitable[Content]]] = {
            Kind.AUTHOR: self._read_author, Kind.FOLLOWERS: self._read_followers, Kind.FOLLOWING: self._read_following,
        }
        return await self.single_flight(kind, owner, reads[kind])

    def seen(self, kind: Kind, hits: int, misses: int) -> None:
        """Count look-ups: so many lists stood complete, so many did not."""
        self._looks[kind].seen(hits, misses)

    async def single_flight(self, kind: Kind, owner: int, read: Callable[[int], Awaitable[Content]]) -> bool:
        """Build the list with what `read(owner)` returns; callers of the same list share one build (with coalescing on)."""
        if not self._coalesce:
            return await self._build(kind, owner, read)
        key = (kind, owner)
        task = self._building.get(key)
        if task is None:
            task = asyncio.ensure_future(self._build(kind, owner, read))
            self._building[key] = task
            task.add_done_callback(lambda done: self._built(key, done))
        return await asyncio.shield(task)

    def _built(self, key: tuple[Kind, int], task: asyncio.Task[bool]) -> None:
        self._building.pop(key, None)
        if not task.cancelled():
            task.exception()  # told to whoever waits; nobody may be waiting any more

    async def _build(self, kind: Kind, owner: int, read: Callable[[int], Awaitable[Content]]) -> bool:
        ends_s = time.monotonic() + self._knobs.building_ttl_s
        for _ in range(MAX_ATTEMPTS):
            token = await self.cache.begin(kind, owner)
            if token is None:
                return False
            try:
                await checkpoints.reached(f"build.{kind.name.lower()}.after_begin", owner=owner)
                entries, floor = await read(owner)
                await checkpoints.reached(f"build.{kind.name.lower()}.after_read", owner=owner)
                if await self.cache.complete(kind, owner, token, entries, floor):
                    return True
                if time.monotonic() > ends_s:
                    return False  # so slow that the mark expired: another try would only add to what makes it slow
            except BaseException:
                await self._abandon(kind, owner)
                raise
        return False

    async def _abandon(self, kind: Kind, owner: int) -> None:
        """Take our building mark away, so that the next reader need not wait for its TTL."""
        try:
            await asyncio.shield(self.cache.drop([(kind, owner)]))
        except (StoreUnavailable, asyncio.CancelledError):
            pass  # the mark's TTL ends it

    # ---- the truth -----------------------------------------------------------------------------------

    async def _read_author(self, owner: int) -> Content:
        cap = self._knobs.cap
        async with self._author_reads:
            rows = await self._tweets.by_author(owner, None, cap)
        await self._keep(rows)
        floor = rows[-1].id if len(rows) >= cap else 0
        return [Entry(row.id, owner) for row in rows if not row.deleted], floor

    async def _read_followers(self, owner: int) -> Content:
        return [Entry(user, 0) for user in await self.all_followers(owner)], 0

    async def _read_following(self, owner: int) -> Content:
        return [Entry(user, 0) for user in await self.all_following(owner)], 0

    async def all_followers(self, owner: int) -> list[int]:
        """Return all followers from the primary, ascending."""
        return await _all(self._users.followers, owner)

    async def all_following(self, owner: int) -> list[int]:
        """Return all followed users from the primary, ascending."""
        return await _all(self._users.following, owner)

    async def followings(self, owner: int) -> list[int]:
        """Return all followed users: from the cached list, which is built where absent, else from the primary."""
        for _ in range(2):
            members = await self.cache.members(Kind.FOLLOWING, owner)
            self.seen(Kind.FOLLOWING, int(members is not None), int(members is None))
            if members is not None:
                return members
            if not await self.ensure(Kind.FOLLOWING, owner):
                break
        return await self.all_following(owner)

    async def author_rows(self, owner: int, before: int | None, limit: int) -> list[Entry]:
        """Return an author's newest `limit` rows below `before` from Cassandra, deleted ones included."""
        async with self._author_reads:
            rows = await self._tweets.by_author(owner, before, limit)
        await self._keep(rows)
        return [Entry(row.id, owner) for row in rows]

    async def _keep(self, rows: Sequence[Tweet]) -> None:
        """Put the newest tweets that were just read into the hot cache: a page will ask for them next."""
        newest = [row for row in rows[:KEPT] if not row.deleted]
        try:
            await self._hot.fill(newest)
        except StoreUnavailable:
            pass  # they are read again where they are needed


async def _all(read: Callable[[int, int, int], Awaitable[Sequence[int]]], owner: int) -> list[int]:
    found: list[int] = []
    after = -1
    while True:
        part = await read(owner, after, USERS_PAGE)
        found.extend(part)
        if len(part) < USERS_PAGE:
            return found
        after = part[-1]
