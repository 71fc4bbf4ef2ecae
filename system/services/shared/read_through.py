"""Read-through caches of tweets and profiles. A miss is read from the durable store.

A fill never overwrites an entry (`TweetCache.fill`): a delete leaves a deletion marker in the cache, so a
fill with a tweet that was read before its delete has no effect. While Redis does not respond, the store is
read and nothing is filled.

Callers that miss the same entry wait for one read (single-flight). Afterwards they read the *cache*, not the
result of that read: the read may be older than their own request, for example if the tweet was deleted in
between.
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

MAX_PROFILES = 20_000  # profiles cached per process: about 10 MB
MAX_USERNAMES = 10_000


class CacheHits:
    """Hit and miss counters of one cache."""

    def __init__(self, cache: str) -> None:
        self.hit = metrics.counter("tweetlab_cache_requests_total", cache=cache, result="hit")
        self.miss = metrics.counter("tweetlab_cache_requests_total", cache=cache, result="miss")

    def count(self, hits: int, misses: int) -> None:
        """Add to the counters."""
        if hits:
            self.hit(hits)
        if misses:
            self.miss(misses)


class SingleFlight:
    """Shares reads of the store between callers, by id. `on`: if False, each caller reads alone."""

    def __init__(self, on: bool = True) -> None:
        self._on = on
        self._in_flight: dict[int, asyncio.Task[None]] = {}

    async def read(self, wanted: Sequence[int], read: Callable[[list[int]], Awaitable[None]]) -> list[int]:
        """Read the ids that no other caller is reading; wait until other callers have read the others.

        Returns the ids that others have read: they may be in the cache now.
        """
        others = [key for key in wanted if key in self._in_flight]
        mine = [key for key in wanted if key not in self._in_flight]
        waiting = {self._in_flight[key] for key in others}
        if mine:
            task = asyncio.ensure_future(self._lead(mine, read))
            if self._on:
                self._in_flight.update(dict.fromkeys(mine, task))
            await asyncio.shield(task)
        if waiting:
            await asyncio.wait(waiting)  # the error of a failed read is raised only in the caller that started it
        return others

    async def _lead(self, mine: list[int], read: Callable[[list[int]], Awaitable[None]]) -> None:
        try:
            await read(mine)
        finally:
            for key in mine:
                self._in_flight.pop(key, None)


class Tweets:
    """Reads tweets by id: from the hot cache, else from Cassandra at QUORUM.

    `coalesce`: whether callers share the read of a miss.
    """

    def __init__(self, hot: TweetCache, store: TweetStore, coalesce: bool = True) -> None:
        self._hot = hot
        self._store = store
        self._single_flight = SingleFlight(coalesce)
        self._cache_hits = CacheHits("tweets")

    async def live(self, tweet_ids: Sequence[int], spent: Spent) -> dict[int, Tweet]:
        """Return id -> tweet of the tweets that exist and are not deleted.

        Raises StoreUnavailable if Cassandra is needed and does not respond.
        """
        if not tweet_ids:
            return {}
        start = time.perf_counter_ns()
        try:
            cached = await self._hot.get(tweet_ids)
        except StoreUnavailable:
            return {key: tweet for key, tweet in (await self._store.get(tweet_ids)).items() if not tweet.deleted}
        finally:
            spent.since("redis", start)
        self._cache_hits.count(len(cached), len(tweet_ids) - len(cached))
        tweets = {key: tweet for key, tweet in cached.items() if tweet is not None}
        if len(cached) < len(tweet_ids):
            start = time.perf_counter_ns()
            tweets.update(await self._missed([tweet_id for tweet_id in tweet_ids if tweet_id not in cached]))
            spent.since("cassandra", start)
        return tweets

    async def _missed(self, tweet_ids: Sequence[int]) -> dict[int, Tweet]:
        tweets: dict[int, Tweet] = {}

        async def read(mine: list[int]) -> None:
            tweets.update(await self._from_store(mine))

        others = await self._single_flight.read(tweet_ids, read)
        if others:
            try:
                cached = await self._hot.get(others)
            except StoreUnavailable:
                cached = {}
            tweets.update((key, tweet) for key, tweet in cached.items() if tweet is not None)
            absent = [key for key in others if key not in cached]
            tweets.update(await self._from_store(absent) if absent else {})
        return tweets

    async def _from_store(self, tweet_ids: Sequence[int]) -> dict[int, Tweet]:
        rows = await self._store.get(tweet_ids)
        await checkpoints.reached("tweets.before_fill", ids=tuple(rows))
        try:
            await self._hot.fill(list(rows.values()))
        except StoreUnavailable:
            pass  # the cache stays as it is; the response does not depend on it
        return {key: tweet for key, tweet in rows.items() if not tweet.deleted}


class Profiles:
    """Reads users by id, with their counts, and caches them in this process.

    An entry is valid for `ttl_s` seconds, or until the change feed reports that the user changed. `hot`:
    source of the change feed; None: entries expire only by their TTL.
    """

    def __init__(self, users: UserDirectory, ttl_s: float, hot: TweetCache | None = None, coalesce: bool = True) -> None:
        self._users = users
        self._ttl_s = ttl_s
        self._cached: dict[int, tuple[float, User]] = {}
        self._invalidations = 0
        self._changes = ChangeFeed(hot, self._invalidate) if hot is not None else None
        self._single_flight = SingleFlight(coalesce)
        self._cache_hits = CacheHits("profiles")

    async def get(self, user_ids: Iterable[int]) -> list[User]:
        """Return the users that exist, in the order of `user_ids`, each once."""
        wanted = list(dict.fromkeys(user_ids))
        if self._changes is not None:
            await self._changes.refresh()
        now_s = time.monotonic()
        users = {key: self._cached[key][1] for key in wanted if key in self._cached and self._cached[key][0] >= now_s}
        self._cache_hits.count(len(users), len(wanted) - len(users))
        if len(users) < len(wanted):
            users.update(await self._missed([key for key in wanted if key not in users], now_s))
        return [users[key] for key in wanted if key in users]

    async def require(self, user_id: int) -> None:
        """Raise NotFound if the user does not exist.

        For routes that return a list of a user: an empty list would suggest that the user exists.
        """
        if not await self.get([user_id]):
            raise NotFound(f"Could not find user with id: [{user_id}].")

    async def _missed(self, user_ids: list[int], now_s: float) -> dict[int, User]:
        users: dict[int, User] = {}

        async def read(mine: list[int]) -> None:
            users.update(await self._read(mine, now_s))

        others = await self._single_flight.read(user_ids, read)
        users.update((key, self._cached[key][1]) for key in others if key in self._cached)
        absent = [key for key in others if key not in users]
        users.update(await self._read(absent, now_s) if absent else {})
        return users

    async def _read(self, user_ids: list[int], now_s: float) -> dict[int, User]:
        before = self._invalidations
        users = await self._users.by_id(user_ids)
        if before == self._invalidations:  # else the users that were read may already be out of date
            if len(self._cached) + len(users) > MAX_PROFILES:
                self._cached.clear()
            self._cached.update((key, (now_s + self._ttl_s, user)) for key, user in users.items())
        return users

    def _invalidate(self, changed: frozenset[int] | None) -> None:
        self._invalidations += 1
        if changed is None:
            self._cached.clear()
        for key in changed or ():
            self._cached.pop(key, None)


class Usernames:
    """Resolves usernames to user ids.

    A username is never reassigned, so hits are cached without a TTL; misses are not cached. Only a reset of
    the lab to its seeded state frees usernames; the change feed reports it.
    """

    def __init__(self, users: UserDirectory, hot: TweetCache) -> None:
        self._users = users
        self._cached: dict[str, int] = {}
        self._changes = ChangeFeed(hot, self._invalidate)

    def _invalidate(self, changed: frozenset[int] | None) -> None:
        if changed is None:
            self._cached.clear()

    async def ids_of(self, usernames: Sequence[str]) -> dict[str, int]:
        """Return username -> id of those of `usernames` (in lower case) that exist. Raises StoreUnavailable."""
        if not usernames:
            return {}
        await self._changes.refresh()
        absent = [name for name in usernames if name not in self._cached]
        read = await self._users.ids_of(absent) if absent else {}
        found = {name: self._cached.get(name, read.get(name)) for name in usernames}
        if len(self._cached) + len(read) > MAX_USERNAMES:
            self._cached.clear()
        self._cached.update(read)
        return {name: user_id for name, user_id in found.items() if user_id is not None}
