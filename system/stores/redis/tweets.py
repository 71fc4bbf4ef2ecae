"""TweetCache on Redis: hot tweets as compact JSON, and the *deleted* marker that no fill overwrites."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from system.kernel.events import Tweet
from system.kernel.settings import Settings
from system.kernel.text import entities
from system.stores.redis.base import Redis, clear
from system.stores.redis.link import Link

DELETED = b"D"
# A fill that read the tweet store before a delete may arrive late, but not after its request's deadline (5 s
# by default): the marker lives far longer than that, and longer than any tweet that was filled before it.
MARKER_TTL_S = 3600
KEPT_CHANGES = 10_000  # announcements kept; each process polls once a second
MAX_CHANGES = 1_000    # read per poll; if there are more, a process drops its whole local cache
EVERYTHING = b"*"


class RedisTweets(Redis):
    """Hot tweets in Redis. Shared by all tasks of one event loop."""

    def __init__(self, link: Link, settings: Settings) -> None:
        super().__init__(link, settings)
        self._ttl_s = max(1, settings.policies.cache.tweet_ttl_s)
        self._marker_ttl_s = max(MARKER_TTL_S, 2 * self._ttl_s)

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, Tweet | None]:
        if not tweet_ids:
            return {}
        prefix = f"{self.link.prefix}t:"
        values = await self.link.call("MGET", *[f"{prefix}{tweet_id}" for tweet_id in tweet_ids])
        return {tweet_id: _decoded(value) for tweet_id, value in zip(tweet_ids, values, strict=True) if value is not None}

    async def fill(self, tweets: Sequence[Tweet]) -> None:
        prefix = f"{self.link.prefix}t:"
        await self.link.calls([
            ("SET", f"{prefix}{tweet.id}", DELETED, "EX", self._marker_ttl_s) if tweet.deleted
            else ("SET", f"{prefix}{tweet.id}", _encoded(tweet), "NX", "EX", self._ttl_s)
            for tweet in tweets
        ])

    async def mark_deleted(self, tweet_id: int) -> None:
        await self.link.call("SET", f"{self.link.prefix}t:{tweet_id}", DELETED, "EX", self._marker_ttl_s)

    async def announce(self, user_ids: Sequence[int]) -> None:
        await self.link.script("announce", KEPT_CHANGES, *(user_ids or (EVERYTHING.decode(),)))

    async def changes(self, since: int) -> tuple[int, frozenset[int] | None]:
        key = f"{self.link.prefix}x"
        number, members = await self.link.calls([
            ("GET", f"{key}:n"), ("ZRANGE", key, f"({max(since, 0)}", "+inf", "BYSCORE", "LIMIT", 0, MAX_CHANGES + 1),
        ])
        mark = int(number or 0)
        if since < 0:
            return mark, frozenset()
        if mark < since or 0 < since < mark - KEPT_CHANGES or len(members) > MAX_CHANGES or EVERYTHING in members:
            return mark, None
        return mark, frozenset(map(int, members))

    async def clear(self) -> None:
        """Delete all hot tweets and announced changes of this namespace and nothing else."""
        await clear(self.link, "t:*")
        await self.link.call("DEL", f"{self.link.prefix}x", f"{self.link.prefix}x:n")


def _encoded(tweet: Tweet) -> bytes:
    return orjson.dumps([tweet.id, tweet.author_id, tweet.text, tweet.created_ms, tweet.conversation_id, tweet.in_reply_to,
                         tweet.media_keys, False, entities.of(tweet)])


def _decoded(value: bytes) -> Tweet | None:
    if value == DELETED:
        return None
    parts = orjson.loads(value)  # the fields of a Tweet in order; an entry of an earlier version ends after the seventh
    parts[6] = tuple(parts[6])
    return Tweet(*parts)
