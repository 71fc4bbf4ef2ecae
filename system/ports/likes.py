"""Likes: rows in PostgreSQL, and counts that are recomputed from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Like:
    """`user_id` likes `tweet_id`, or not, as of `version`.

    `version` grows with every change of the row; 0 if the row never existed.
    """

    tweet_id: int
    user_id: int
    liked: bool
    version: int


@dataclass(frozen=True)
class LikeCount:
    """Number of likes of a tweet. `stamp`: grows with every change of its likes, so it orders two counts."""

    count: int
    stamp: int


class LikeStore(Protocol):
    """One row per tweet and user.

    Serial on the primary; a commit is never cancelled. Counts are set sizes, never sums.
    """

    async def like(self, user_id: int, tweet_id: int, trace: str = "", key: str = "") -> Like:
        """Create the like and an outbox row in one transaction.

        Safe to repeat: a repeat writes its outbox row too.

        An idempotency `key` belongs to the user: a repeat with it changes nothing and returns the like as it
        is now. Raises Conflict (422) if the key was used for something else.
        """
        ...

    async def unlike(self, user_id: int, tweet_id: int, trace: str = "") -> Like:
        """Remove the like and write an outbox row in one transaction. Safe to repeat."""
        ...

    async def liked(self, user_id: int, tweet_ids: Sequence[int]) -> set[int]:
        """Return the subset of these tweets that the user likes."""
        ...

    async def counts(self, tweet_ids: Sequence[int]) -> dict[int, LikeCount]:
        """Return the counts of all these tweets, from one snapshot; (0, 0) for one that was never liked."""
        ...

    async def liking_users(self, tweet_id: int, after: int, limit: int, hidden: Collection[int] = ()) -> list[int]:
        """Return up to `limit` ids above `after` of users who like the tweet, ascending, without those in `hidden`."""
        ...

    async def liked_tweets(self, user_id: int, before: int | None, limit: int) -> list[int]:
        """Return up to `limit` ids below `before` of tweets that the user likes, newest tweet first."""
        ...


class LikeCounts(Protocol):
    """Cached counts, as last recomputed.

    May be lost at any time; may lag behind the rows until the consumer catches up.
    """

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, int]:
        """Return the counts that are cached."""
        ...

    async def put(self, counts: Mapping[int, LikeCount]) -> int:
        """Set these counts, unless a newer one is cached.

        Safe to repeat, in any order. Return how many were set.
        """
        ...
