"""Reading tweets and profiles through their caches. What the caches do not hold comes from the truth.

A fill never overwrites (`TweetCache.fill`), so a tweet that was read alive before its delete cannot come back after
it: the delete's marker stands. Where Redis does not answer, the truth is read and nothing is filled.

Callers that miss the same entry wait for one read. Afterwards they look into the *cache*, they do not take what was read: it
may be older than their own question, as where the tweet was deleted in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from system.kernel import checkpoints
from system.kernel.errors import NotFound, StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.http.asgi import Spent
from system.kernel.telemetry import metrics
from system.ports import TweetCache, TweetStore, User, UserDirectory
from system.services.shared.change_feed import ChangeFeed

MAX_PROFILES = 20_000  # profiles kept in a process: about 10 MB


class CacheHits:
    """Counts look-ups in one cache."""

    def __init__(self, cache: str) -> None:
        self.hit = metrics.counter("tweetlab_cache_requests_total", cache=cache, result="hit")
        self.miss = metrics.counter("tweetlab_cache_requests_total", cache=cache, result="miss")

    def seen(self, hits: int, misses: int) -> None:
        """So many entries stood there, so many did not."""
        if hits:
            self.hit(hits)
        if misses:
            self.miss(misses)


class Flights:
    """Reads of the truth that are under way, by id. `on`: False lets each caller read for itself."""

    def __init__(self, on: bool = True) -> None:
        self._on = on
        self._under_way: dict[int, asyncio.Task[None]] = {}

    async def read(self, wanted: Sequence[int], read: Callable[[list[int]], Awaitable[None]]) -> list[int]:
        """Read those that nobody reads and wait for the others; return the others: look for them in the cache now."""
        others = [key for key in wanted if key in self._under_way]
        mine = [key for key in wanted if key not in self._under_way]
        waiting = {self._under_way[key] for key in others}
        if mine:
            task = asyncio.ensure_future(self._lead(mine, read))
            if self._on:
                self._under_way.update(dict.fromkeys(mine, task))
            await asyncio.shield(task)
        if waiting:
            await asyncio.wait(waiting)  # one that failed has told its own caller
        return others

    async def _lead(self, mine: list[int], read: Callable[[list[int]], Awaitable[None]]) -> None:
        try:
            await read(mine)
        finally:
            for key in mine:
                self._under_way.pop(key, None)


class Tweets:
    """Tweets by id: hot cache first, then Cassandra at QUORUM. `coalesce`: whether callers share a read of what is missed."""

    def __init__(self, hot: TweetCache, store: TweetStore, coalesce: bool = True) -> None:
        self._hot = hot
        self._store = store
        self._flights = Flights(coalesce)
        self._looks = CacheHits("tweets")

    async def live(self, tweet_ids: Sequence[int], spent: Spent) -> dict[int, Tweet]:
        """Return the tweets that exist and are not deleted. Raises StoreUnavailable."""
        if not tweet_ids:
            return {}
        start = time.perf_counter_ns()
        try:
            known = await self._hot.get(tweet_ids)
        except StoreUnavailable:
            return {key: tweet for key, tweet in (await self._store.get(tweet_ids)).items() if not tweet.deleted}
        finally:
            spent.since("redis", start)
        self._looks.seen(len(known), len(tweet_ids) - len(known))
        found = {key: tweet for key, tweet in known.items() if tweet is not None}
        if len(known) < len(tweet_ids):
            start = time.perf_counter_ns()
            found.update(await self._missed([tweet_id for tweet_id in tweet_ids if tweet_id not in known]))
            spent.since("cassandra", start)
        return found

    async def _missed(self, tweet_ids: Sequence[int]) -> dict[int, Tweet]:
        found: dict[int, Tweet] = {}

        async def read(mine: list[int]) -> None:
            found.update(await self._from_store(mine))

        others = await self._flights.read(tweet_ids, read)
        if others:
            try:
                known = await self._hot.get(others)
            except StoreUnavailable:
                known = {}
            found.update((key, tweet) for key, tweet in known.items() if tweet is not None)
            absent = [key for key in others if key not in known]
            found.update(await self._from_store(absent) if absent else {})
        return found

    async def _from_store(self, tweet_ids: Sequence[int]) -> dict[int, Tweet]:
        read = await self._store.get(tweet_ids)
        await checkpoints.reached("tweets.before_fill", ids=tuple(read))
        try:
            await self._hot.fill(list(read.values()))
        except StoreUnavailable:
            pass  # the cache stays as it is; the answer does not depend on it
        return {key: tweet for key, tweet in read.items() if not tweet.deleted}


class Profiles:
    """Users by id, kept in this process for `ttl_s` seconds, counts included, or until the news say that they changed.

    `hot`: where the news come from; None: only time ends a profile.
    """

    def __init__(self, users: UserDirectory, ttl_s: float, hot: TweetCache | None = None, coalesce: bool = True) -> None:
        self._users = users
        self._ttl_s = ttl_s
        self._kept: dict[int, tuple[float, User]] = {}
        self._forgotten = 0
        self._news = ChangeFeed(hot, self._forget) if hot is not None else None
        self._flights = Flights(coalesce)
        self._looks = CacheHits("profiles")

    async def get(self, user_ids: Iterable[int]) -> list[User]:
        """Return the users that exist, in the order of `user_ids`, each once."""
        wanted = list(dict.fromkeys(user_ids))
        if self._news is not None:
            await self._news.heard()
        now_s = time.monotonic()
        found = {key: self._kept[key][1] for key in wanted if key in self._kept and self._kept[key][0] >= now_s}
        self._looks.seen(len(found), len(wanted) - len(found))
        if len(found) < len(wanted):
            found.update(await self._missed([key for key in wanted if key not in found], now_s))
        return [found[key] for key in wanted if key in found]

    async def require(self, user_id: int) -> None:
        """Raise NotFound where there is no such user: an empty list of his would say that there is."""
        if not await self.get([user_id]):
            raise NotFound(f"Could not find user with id: [{user_id}].")

    async def _missed(self, user_ids: list[int], now_s: float) -> dict[int, User]:
        found: dict[int, User] = {}

        async def read(mine: list[int]) -> None:
            found.update(await self._read(mine, now_s))

        others = await self._flights.read(user_ids, read)
        found.update((key, self._kept[key][1]) for key in others if key in self._kept)
        absent = [key for key in others if key not in found]
        found.update(await self._read(absent, now_s) if absent else {})
        return found

    async def _read(self, user_ids: list[int], now_s: float) -> dict[int, User]:
        before = self._forgotten
        read = await self._users.by_id(user_ids)
        if before == self._forgotten:  # else what was read may be what the news were about
            if len(self._kept) + len(read) > MAX_PROFILES:
                self._kept.clear()
            self._kept.update((key, (now_s + self._ttl_s, user)) for key, user in read.items())
        return read

    def _forget(self, changed: frozenset[int] | None) -> None:
        self._forgotten += 1
        if changed is None:
            self._kept.clear()
        for key in changed or ():
            self._kept.pop(key, None)
