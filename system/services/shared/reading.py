"""Reading tweets and profiles through their caches. What the caches do not hold comes from the truth.

A fill never overwrites (`TweetCache.fill`), so a tweet that was read alive before its delete cannot come back after
it: the delete's marker stands. Where Redis does not answer, the truth is read and nothing is filled.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from system.kernel import checkpoints
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.http import Spent
from system.ports import TweetCache, TweetStore, User, UserDirectory

MAX_PROFILES = 20_000  # profiles kept in a process: about 10 MB


class Tweets:
    """Tweets by id: hot cache first, then Cassandra at QUORUM."""

    def __init__(self, hot: TweetCache, store: TweetStore) -> None:
        self._hot = hot
        self._store = store

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
        found = {key: tweet for key, tweet in known.items() if tweet is not None}
        if len(known) < len(tweet_ids):
            start = time.perf_counter_ns()
            found.update(await self._from_store([tweet_id for tweet_id in tweet_ids if tweet_id not in known]))
            spent.since("cassandra", start)
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
    """Users by id, kept in this process for `ttl_s` seconds. A profile may be that old; counts in it too."""

    def __init__(self, users: UserDirectory, ttl_s: float) -> None:
        self._users = users
        self._ttl_s = ttl_s
        self._kept: dict[int, tuple[float, User]] = {}

    async def get(self, user_ids: Iterable[int]) -> list[User]:
        """Return the users that exist, in the order of `user_ids`, each once."""
        wanted = list(dict.fromkeys(user_ids))
        now_s = time.monotonic()
        found = {key: self._kept[key][1] for key in wanted if key in self._kept and self._kept[key][0] >= now_s}
        if len(found) < len(wanted):
            read = await self._users.by_id([key for key in wanted if key not in found])
            found.update(read)
            if len(self._kept) + len(read) > MAX_PROFILES:
                self._kept.clear()
            self._kept.update((key, (now_s + self._ttl_s, user)) for key, user in read.items())
        return [found[key] for key in wanted if key in found]
