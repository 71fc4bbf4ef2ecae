"""`public_metrics` of tweets and users. They have to be counted, so they are looked up only if the request names them.

Likes are read from their cache, and on a miss from the rows. A count may lag behind the rows until the
consumer of `new_like` has caught up (some tenths of a second), or, after a loss of Redis at the wrong moment,
until it expires. Replies are counted in Cassandra, as far as the fan-out worker has noted them; so are the tweets
of a user.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.telemetry import metrics
from system.ports import LikeCounts, LikeStore, TweetStore
from system.services.shared import shapes


class TweetCounts:
    """How many tweets users have."""

    def __init__(self, store: TweetStore) -> None:
        self._store = store

    async def of(self, user_ids: Iterable[int], fields: frozenset[str] | None) -> dict[int, int]:
        """Return user -> number of live tweets if `fields` names `public_metrics`, else nothing.

        Raises StoreUnavailable.
        """
        if fields is None or shapes.METRICS not in fields:
            return {}
        return await self._store.tweet_counts(list(user_ids))


class PublicMetrics:
    """Counts of likes, read through their cache, and of replies."""

    def __init__(self, likes: LikeStore, counts: LikeCounts, store: TweetStore) -> None:
        self._likes, self._counts, self._store = likes, counts, store

    async def of(self, tweets: Iterable[Tweet]) -> dict[int, shapes.Json]:
        """Return `public_metrics` by tweet. Raises StoreUnavailable."""
        ids = [tweet.id for tweet in tweets]
        likes, replies = await asyncio.gather(self.likes(ids), self._store.reply_counts(ids))
        return {tweet_id: shapes.tweet_metrics(count, replies.get(tweet_id, 0)) for tweet_id, count in likes.items()}

    async def likes(self, tweet_ids: list[int]) -> dict[int, int]:
        """Return the number of likes of each of these tweets.

        Raises StoreUnavailable if PostgreSQL does not answer.
        """
        try:
            cached = await self._counts.get(tweet_ids)
        except StoreUnavailable:
            return {key: count.count for key, count in (await self._likes.counts(tweet_ids)).items()}
        absent = [tweet_id for tweet_id in tweet_ids if tweet_id not in cached]
        metrics.count("tweetlab_cache_requests_total", len(tweet_ids) - len(absent), cache="likes", result="hit")
        if absent:
            metrics.count("tweetlab_cache_requests_total", len(absent), cache="likes", result="miss")
            counted = await self._likes.counts(absent)
            cached.update((key, count.count) for key, count in counted.items())
            try:
                await self._counts.put(counted)
            except StoreUnavailable:
                pass  # the cache is left as it is; the response does not depend on it
        return cached
