"""Cached like counts on Redis: `LikeCounts`.

A count is set, never incremented, and replaces only an older one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from system.kernel.settings import Settings
from system.ports import LikeCount
from system.stores.redis.base import Redis, clear
from system.stores.redis.link import Arg, Link


class RedisLikes(Redis):
    """Counts in Redis. Shared by all tasks of one event loop."""

    def __init__(self, link: Link, settings: Settings) -> None:
        super().__init__(link, settings)
        self._ttl_s = max(1, settings.policies.cache.like_ttl_s)

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, int]:
        if not tweet_ids:
            return {}
        prefix = f"{self.link.prefix}l:"
        values = await self.link.call("MGET", *[f"{prefix}{tweet_id}" for tweet_id in tweet_ids])
        return {key: int(value.split()[0]) for key, value in zip(tweet_ids, values, strict=True) if value is not None}

    async def put(self, counts: Mapping[int, LikeCount]) -> int:
        if not counts:
            return 0
        flat: list[Arg] = []
        for tweet_id, like_count in counts.items():
            flat += (tweet_id, like_count.count, like_count.stamp)
        return int(await self.link.script("put_counts", self._ttl_s, *flat))

    async def clear(self) -> None:
        """Delete all counts of this namespace and nothing else."""
        await clear(self.link, "l:*")
