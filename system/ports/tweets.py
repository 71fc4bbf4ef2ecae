"""Tweets and the outbox: Cassandra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from system.kernel.events import Event, Tweet
from system.ports.timelines import Entry


@dataclass(frozen=True)
class OutboxRow:
    """An event that was made durable with its change.

    `written_ms`: wall time of the id or change it belongs to.
    """

    shard: int
    bucket: int
    event: Event
    written_ms: int


class TweetStore(Protocol):
    """Tweets by id and by author, and the outbox. QUORUM reads and writes."""

    async def append(self, tweet: Tweet, trace: str = "") -> None:
        """Make `tweet` durable: first its outbox row, which contains all of it, then the rows that are read.

        A failure between the two is never `definite`: the relay finds the outbox row and writes the rest.

        Safe to repeat: the write timestamp derives from the id, so a repeat is a no-op and never newer than a
        delete.
        """
        ...

    async def upsert(self, tweets: Sequence[Tweet]) -> None:
        """Write tweets that an event carried, with their original timestamps, without outbox rows. Safe to repeat."""
        ...

    async def delete(self, tweet_id: int, author_id: int, trace: str = "") -> None:
        """Write an outbox row, then set `deleted` on the tweet, in both tables. Monotone; safe to repeat.

        Raises StoreUnavailable: definite only if nothing was written; if the row exists the relay completes
        the delete.
        """
        ...

    async def mark_deleted(self, tweets: Sequence[tuple[int, int]]) -> None:
        """Set `deleted` on these (tweet id, author id), in both tables, without outbox rows: from an event.

        Safe to repeat.
        """
        ...

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, Tweet]:
        """Return the tweets that exist, deleted ones included with `deleted=True`."""
        ...

    async def by_author(self, author_id: int, before: int | None, limit: int) -> list[Tweet]:
        """Return the author's newest `limit` tweets below `before`, deleted ones included with `deleted=True`."""
        ...

    async def tweet_counts(self, author_ids: Sequence[int]) -> dict[int, int]:
        """Return author -> how many tweets of theirs exist and are not deleted; 0 for an unknown author."""
        ...

    async def note_reply(self, parent_id: int, tweet_id: int, deleted: bool = False) -> None:
        """Note that a tweet replies to `parent_id`, or that this reply was deleted, which is final.

        Safe to repeat, in any order.
        """
        ...

    async def reply_counts(self, parent_ids: Sequence[int]) -> dict[int, int]:
        """Return tweet -> how many replies to it were noted and are not deleted; 0 where there are none."""
        ...

    async def mention(self, tweet: Tweet, user_ids: Sequence[int]) -> None:
        """Note that `tweet` mentions these users. Safe to repeat."""
        ...

    async def mentions(self, user_id: int, before: int | None, limit: int) -> list[Entry]:
        """Return the newest `limit` tweets below `before` that mention the user, deleted ones included."""
        ...

    async def outbox(self, shard: int, bucket: int) -> list[OutboxRow]:
        """Return the rows of one (shard, 10 s) partition, oldest first."""
        ...

    async def outbox_mark(self, shard: int) -> int:
        """Return the bucket below which every row of `shard` is known to be published; 0 if none is."""
        ...

    async def set_outbox_mark(self, shard: int, bucket: int) -> None:
        """Raise the mark of `shard`."""
        ...
