"""Rebuilds cached lists from the durable stores, one rebuild per list at a time.

    begin (marks the key *building*, with a token)  ->  read the stores  ->  complete (only if the token is still set)

No entry is lost: a write between begin and complete adds its entry to the list that is being built, and a
write before begin is in the stores, which are read after begin. A removal deletes the key, and with it the
token, so the rebuild starts again with a new read.

Within a process, callers that need the same list wait for one rebuild. Afterwards they must read the *list*,
not the content that the rebuild read: that read may be older than their own request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from system.kernel import checkpoints
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.policies import TimelineKnobs
from system.ports import IS_COMPLETE, Entry, Kind, TimelineCache, TweetCache, TweetStore, UserDirectory
from system.services.shared.read_through import CacheHits

MAX_ATTEMPTS = 4      # rebuilds in a row that may lose their token; then the caller reads the stores instead
AUTHOR_READS = 32     # concurrent reads of author partitions per process; 2 cores do about 4,000/s, so 8 ms of work
KEPT = 20             # newest tweets of an author to put into the hot cache after a read: one page of one author
USERS_PAGE = 10_000   # follow edges per read of PostgreSQL

NAMES = {Kind.HOME: "timelines", Kind.AUTHOR: "author_timelines", Kind.FOLLOWERS: "followers", Kind.FOLLOWING: "following"}

Content = tuple[list[Entry], int]
"""(entries, floor): the list is complete for ids >= floor; 0 means that it contains everything."""


class CachedLists:
    """Rebuilds and reads cached lists for one process: tweets of authors, followers, followed users."""

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
        self._cache_hits = {kind: CacheHits(name) for kind, name in NAMES.items()}

    async def ensure(self, kind: Kind, owner: int) -> bool:
        """Rebuild an absent list of authors' tweets, followers or followed users.

        Returns False if another process is rebuilding it, if the token was lost MAX_ATTEMPTS times, or if the
        rebuild took longer than its mark lives. True does not guarantee that the list still exists: the
        caller reads it, and reads the stores if it is absent.
        """
        reads: dict[Kind, Callable[[int], Awaitable[Content]]] = {
            Kind.AUTHOR: self._read_author, Kind.FOLLOWERS: self._read_followers, Kind.FOLLOWING: self._read_following,
        }
        return await self.single_flight(kind, owner, reads[kind])

    def count_lookups(self, kind: Kind, hits: int, misses: int) -> None:
        """Count lookups of lists. `hits`: lists that were complete; `misses`: lists that were not."""
        self._cache_hits[kind].count(hits, misses)

    async def single_flight(self, kind: Kind, owner: int, read: Callable[[int], Awaitable[Content]]) -> bool:
        """Rebuild a list with the content that `read(owner)` returns; the result is that of `ensure`.

        With `coalesce`, concurrent callers that need the same list share one rebuild.
        """
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
            task.exception()  # retrieved, or asyncio logs it if all callers were cancelled; else they have received it

    async def _build(self, kind: Kind, owner: int, read: Callable[[int], Awaitable[Content]]) -> bool:
        ends_s = time.monotonic() + self._knobs.building_ttl_s
        for _ in range(MAX_ATTEMPTS):
            token = await self.cache.begin(kind, owner)
            if token is None:
                return False
            if token == IS_COMPLETE:
                return True  # another caller has built it since it was found absent
            try:
                await checkpoints.reached(f"build.{kind.name.lower()}.after_begin", owner=owner)
                entries, floor = await read(owner)
                await checkpoints.reached(f"build.{kind.name.lower()}.after_read", owner=owner)
                if await self.cache.complete(kind, owner, token, entries, floor):
                    return True
                if time.monotonic() > ends_s:
                    return False  # so slow that the mark has expired: another try would only add load
            except BaseException:
                await self._abandon(kind, owner)
                raise
        return False

    async def _abandon(self, kind: Kind, owner: int) -> None:
        """Delete the *building* mark of this rebuild, so that the next reader does not wait for its TTL."""
        try:
            await asyncio.shield(self.cache.drop([(kind, owner)]))
        except (StoreUnavailable, asyncio.CancelledError):
            pass  # the mark expires by its TTL

    # ---- the stores ----------------------------------------------------------------------------------

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
        """Return the ids of all followers, ascending, read from the primary of PostgreSQL."""
        return await _all(self._users.followers, owner)

    async def all_following(self, owner: int) -> list[int]:
        """Return the ids of all followed users, ascending, read from the primary of PostgreSQL."""
        return await _all(self._users.following, owner)

    async def followings(self, owner: int) -> list[int]:
        """Return the ids of all followed users.

        They are read from the cached list, which is rebuilt if it is absent, else from the primary of
        PostgreSQL.
        """
        for _ in range(2):
            members = await self.cache.members(Kind.FOLLOWING, owner)
            self.count_lookups(Kind.FOLLOWING, int(members is not None), int(members is None))
            if members is not None:
                return members
            if not await self.ensure(Kind.FOLLOWING, owner):
                break
        return await self.all_following(owner)

    async def author_rows(self, owner: int, before: int | None, limit: int) -> list[Entry]:
        """Return an author's newest `limit` entries below `before` from Cassandra, with deleted ones."""
        async with self._author_reads:
            rows = await self._tweets.by_author(owner, before, limit)
        await self._keep(rows)
        return [Entry(row.id, owner) for row in rows]

    async def _keep(self, rows: Sequence[Tweet]) -> None:
        """Put the newest of the tweets just read into the hot cache: the page that follows needs them."""
        newest = [row for row in rows[:KEPT] if not row.deleted]
        try:
            await self._hot.fill(newest)
        except StoreUnavailable:
            pass  # they are read again when needed


async def _all(read: Callable[[int, int, int], Awaitable[Sequence[int]]], owner: int) -> list[int]:
    user_ids: list[int] = []
    after = -1
    while True:
        page = await read(owner, after, USERS_PAGE)
        user_ids.extend(page)
        if len(page) < USERS_PAGE:
            return user_ids
        after = page[-1]
