"""`public_metrics` of tweets. They have to be counted, so they are looked up only if the request names them.

Counts are read from their cache, and on a miss from the rows. A count may lag behind the rows until the
consumer of `new_like` has caught up (some tenths of a second), or, after a loss of Redis at the wrong moment,
until it expires.
"""

from __future__ import annotations

from collections.abc import Iterable

from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.telemetry import metrics
from system.ports import LikeCounts, LikeStore
from system.services.shared import shapes


class PublicMetrics:
    """Like counts, read through their cache."""

    def __init__(self, likes: LikeStore, counts: LikeCounts) -> None:
        self._likes, self._counts = likes, counts

    async def of(self, tweets: Iterable[Tweet], fields: frozenset[str] | None) -> dict[int, shapes.Json] | None:
        """Return `public_metrics` by tweet if `fields` names them, else None. Raises StoreUnavailable."""
        if fields is None or shapes.METRICS not in fields:
            return None
        counts = await self.likes([tweet.id for tweet in tweets])
        return {tweet_id: shapes.tweet_metrics(count) for tweet_id, count in counts.items()}

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
