"""In-memory likes and cached like counts: the same contract, in one process, without durability."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from system.kernel import events
from system.ports import Like, LikeCount
from tests.fakes.base import Memory
from tests.fakes.users import Claims, MemoryUsers


class MemoryLikes(Memory):
    """`LikeStore` in a dict. Changes go to the outbox of `users`: in PostgreSQL both share a database."""

    def __init__(self, users: MemoryUsers | None = None) -> None:
        self._users = users or MemoryUsers()
        self._reset()

    def _reset(self) -> None:
        self._rows: dict[tuple[int, int], Like] = {}
        self._claims = Claims()

    async def like(self, user_id: int, tweet_id: int, trace: str = "", key: str = "") -> Like:
        return self._set(user_id, tweet_id, True, trace, key)

    async def unlike(self, user_id: int, tweet_id: int, trace: str = "") -> Like:
        return self._set(user_id, tweet_id, False, trace, "")

    def _set(self, user_id: int, tweet_id: int, liked: bool, trace: str, key: str) -> Like:
        row = self._rows.get((tweet_id, user_id), Like(tweet_id, user_id, False, 0))
        if self._claims.claim(user_id, key, f"like-{liked}-{tweet_id}") and row.liked != liked:
            row = Like(tweet_id, user_id, liked, row.version + 1)
            self._rows[tweet_id, user_id] = row
        self._users.add_event(events.new_like(user_id, tweet_id, row.liked, row.version, trace))
        return row

    async def liked(self, user_id: int, tweet_ids: Sequence[int]) -> set[int]:
        return {tweet_id for tweet_id in tweet_ids
                if (tweet_id, user_id) in self._rows and self._rows[tweet_id, user_id].liked}

    async def counts(self, tweet_ids: Sequence[int]) -> dict[int, LikeCount]:
        return {tweet_id: self._count(tweet_id) for tweet_id in tweet_ids}

    def _count(self, tweet_id: int) -> LikeCount:
        rows = [row for (tweet, _), row in self._rows.items() if tweet == tweet_id]
        return LikeCount(sum(row.liked for row in rows), sum(row.version for row in rows))

    async def liking_users(self, tweet_id: int, after: int, limit: int, hidden: Collection[int] = ()) -> list[int]:
        users = (row.user_id for row in self._rows.values() if row.liked and row.tweet_id == tweet_id and row.user_id > after)
        return sorted(set(users) - set(hidden))[:limit]

    async def liked_tweets(self, user_id: int, before: int | None, limit: int) -> list[int]:
        tweets = (row.tweet_id for row in self._rows.values() if row.liked and row.user_id == user_id)
        return sorted((tweet for tweet in tweets if before is None or tweet < before), reverse=True)[:limit]

    async def bulk_load(self, likes: Iterable[tuple[int, int]]) -> None:
        """Write seeded likes, pairs of (tweet id, user id), without outbox rows."""
        self._rows.update({(tweet_id, user_id): Like(tweet_id, user_id, True, 1) for tweet_id, user_id in likes})

    async def all_likes(self) -> set[tuple[int, int]]:
        """Return (tweet id, user id) of all current likes."""
        return {pair for pair, row in self._rows.items() if row.liked}


class MemoryLikeCounts:
    """`LikeCounts` in a dict; nothing expires."""

    def __init__(self) -> None:
        self._counts: dict[int, LikeCount] = {}

    async def close(self) -> None:
        """Do nothing; the contents stay."""

    async def clear(self) -> None:
        """Remove everything."""
        self._counts.clear()

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, int]:
        return {tweet_id: self._counts[tweet_id].count for tweet_id in tweet_ids if tweet_id in self._counts}

    async def put(self, counts: Mapping[int, LikeCount]) -> int:
        newer = {tweet_id: count for tweet_id, count in counts.items()
                 if tweet_id not in self._counts or self._counts[tweet_id].stamp <= count.stamp}
        self._counts.update(newer)
        return len(newer)
