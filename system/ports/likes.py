"""Likes: rows in PostgreSQL, and counts that are recomputed from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Like:
    """`user_id` likes `tweet_id`, or not, as of `version` (grows with every change of the row; 0 where it never was)."""

    tweet_id: int
    user_id: int
    liked: bool
    version: int


@dataclass(frozen=True)
class LikeCount:
    """How many like a tweet. `stamp`: grows with every change of its likes, so the newer of two counts is known by it."""

    count: int
    stamp: int


class LikeStore(Protocol):
    """A row per tweet and user. Serial on the primary; a commit is never cancelled. Counts are sizes of sets, never sums."""

    async def like(self, user_id: int, tweet_id: int, trace: str = "", key: str = "") -> Like:
        """Make the like stand, with an outbox row, in one transaction. Safe to repeat: a repeat writes its outbox row too.

        An idempotency `key` is the user's: a repeat with it changes nothing and tells the like as it is now. Raises Conflict
        (422) where the key was used for something else.
        """
        ...

    async def unlike(self, user_id: int, tweet_id: int, trace: str = "") -> Like:
        """Make the like not stand, likewise."""
        ...

    async def liked(self, user_id: int, tweet_ids: Sequence[int]) -> set[int]:
        """Return which of these tweets the user likes."""
        ...

    async def counts(self, tweet_ids: Sequence[int]) -> dict[int, LikeCount]:
        """Return the counts of all these tweets, from one snapshot; (0, 0) where nobody ever liked one."""
        ...

    async def liking_users(self, tweet_id: int, after: int, limit: int, hidden: Collection[int] = ()) -> list[int]:
        """Return up to `limit` ids above `after` of users who like the tweet, ascending, without those in `hidden`."""
        ...

    async def liked_tweets(self, user_id: int, before: int | None, limit: int) -> list[int]:
        """Return up to `limit` ids below `before` of tweets that the user likes, newest tweet first."""
        ...


class LikeCounts(Protocol):
    """Cached counts: what was recomputed last. Lost at any time; may lag behind the rows until the consumer has caught up."""

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, int]:
        """Return the counts that are cached."""
        ...

    async def put(self, counts: Mapping[int, LikeCount]) -> int:
        """Set these, except where a newer one stands. Safe to repeat, in any order. Return how many were set."""
        ...
