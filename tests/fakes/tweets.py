"""In-memory tweet store: the same contract, for tests and for the twin's rehearsals.

One process, no durability.
"""

from __future__ import annotations

import bisect
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace

from system.kernel import clock as clocks
from system.kernel import events, ids
from system.kernel.events import Event, Tweet
from system.ports import Entry, OutboxRow
from tests.fakes.base import Memory

SHARDS = 4
BUCKET_MS = 10_000


class MemoryTweets(Memory):
    """`TweetStore` in dicts. `clock` gives the time of a delete, and how late an append is."""

    def __init__(self, clock: clocks.Clock | None = None) -> None:
        self._clock = clock or clocks.SystemClock()
        self._reset()

    def _reset(self) -> None:
        self._tweets: dict[int, Tweet] = {}
        self._deleted: dict[int, int] = {}
        self._by_author: dict[int, list[int]] = {}  # ids, ascending
        self._outbox: dict[tuple[int, int], dict[tuple[int, str], Event]] = {}
        self._marks: dict[int, int] = {}
        self._replies: dict[int, dict[int, bool]] = {}  # parent -> reply -> whether it is deleted
        self._mentions: dict[int, dict[int, int]] = {}  # user -> tweet -> author

    async def append(self, tweet: Tweet, trace: str = "") -> None:
        self._write(tweet)
        self._add_event(tweet.id, events.outbox_time_ms(tweet.id, self._clock.wall_ms()), events.new_tweet(tweet, trace))

    async def upsert(self, tweets: Sequence[Tweet]) -> None:
        for tweet in tweets:
            self._write(tweet)

    def _write(self, tweet: Tweet) -> None:
        self._tweets[tweet.id] = replace(tweet, created_ms=ids.ms_of(tweet.id), deleted=False)
        self._list(tweet.id, tweet.author_id)
        if tweet.deleted:
            self._deleted[tweet.id] = tweet.author_id

    def _list(self, tweet_id: int, author_id: int) -> None:
        tweet_ids_of_author = self._by_author.setdefault(author_id, [])
        at = bisect.bisect_left(tweet_ids_of_author, tweet_id)
        if tweet_ids_of_author[at : at + 1] != [tweet_id]:
            tweet_ids_of_author.insert(at, tweet_id)

    async def mark_deleted(self, tweets: Sequence[tuple[int, int]]) -> None:
        for tweet_id, author_id in tweets:
            self._deleted[tweet_id] = author_id
            self._list(tweet_id, author_id)

    async def delete(self, tweet_id: int, author_id: int, trace: str = "") -> None:
        await self.mark_deleted([(tweet_id, author_id)])
        self._add_event(tweet_id, self._clock.wall_ms(), events.tweet_deleted(tweet_id, author_id, trace))

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, Tweet]:
        tweets = {tweet_id: self._read(tweet_id) for tweet_id in tweet_ids}
        return {tweet_id: tweet for tweet_id, tweet in tweets.items() if tweet is not None}

    def _read(self, tweet_id: int) -> Tweet | None:
        tweet = self._tweets.get(tweet_id)
        if tweet_id not in self._deleted:
            return tweet
        empty = Tweet(tweet_id, self._deleted[tweet_id], "", ids.ms_of(tweet_id), tweet_id)
        return replace(tweet or empty, deleted=True)

    async def mention(self, tweet: Tweet, user_ids: Sequence[int]) -> None:
        for user_id in user_ids:
            self._mentions.setdefault(user_id, {})[tweet.id] = tweet.author_id

    async def mentions(self, user_id: int, before: int | None, limit: int) -> list[Entry]:
        below = ids.MAX_ID if before is None else before
        found = (Entry(tweet_id, author) for tweet_id, author in self._mentions.get(user_id, {}).items() if tweet_id < below)
        return sorted(found, reverse=True)[:limit]

    async def by_author(self, author_id: int, before: int | None, limit: int) -> list[Tweet]:
        tweet_ids_of_author = self._by_author.get(author_id, [])
        stop = bisect.bisect_left(tweet_ids_of_author, ids.MAX_ID if before is None else before)
        newest = (self._read(tweet_id) for tweet_id in reversed(tweet_ids_of_author[max(0, stop - limit) : stop]))
        return [tweet for tweet in newest if tweet]

    async def tweet_counts(self, author_ids: Sequence[int]) -> dict[int, int]:
        written = {author: self._by_author.get(author, ()) for author in author_ids}
        return {author: sum(tweet_id not in self._deleted for tweet_id in tweet_ids) for author, tweet_ids in written.items()}

    async def note_reply(self, parent_id: int, tweet_id: int, deleted: bool = False) -> None:
        replies = self._replies.setdefault(parent_id, {})
        replies[tweet_id] = replies.get(tweet_id, False) or deleted

    async def reply_counts(self, parent_ids: Sequence[int]) -> dict[int, int]:
        return {parent: sum(not deleted for deleted in self._replies.get(parent, {}).values()) for parent in parent_ids}

    def _add_event(self, tweet_id: int, written_ms: int, event: Event) -> None:
        partition = (tweet_id % SHARDS, written_ms // BUCKET_MS)
        self._outbox.setdefault(partition, {})[written_ms, event.id] = event

    async def outbox(self, shard: int, bucket: int) -> list[OutboxRow]:
        rows = sorted(self._outbox.get((shard, bucket), {}).items(), key=lambda item: item[0])
        return [OutboxRow(shard, bucket, event, written_ms) for (written_ms, _), event in rows]

    async def outbox_mark(self, shard: int) -> int:
        return self._marks.get(shard, 0)

    async def set_outbox_mark(self, shard: int, bucket: int) -> None:
        self._marks[shard] = max(bucket, self._marks.get(shard, 0))

    async def bulk_load(self, tweets: Iterable[Tweet]) -> int:
        """Write seeded tweets, without outbox rows; return how many."""
        seeded = list(tweets)
        await self.upsert(seeded)
        return len(seeded)

    async def all_ids(self) -> list[tuple[int, int, bool]]:
        """Return (id, author_id, deleted) of every tweet, in no particular order."""
        tweets = (self._read(tweet_id) for tweet_id in self._tweets.keys() | self._deleted.keys())
        return [(tweet.id, tweet.author_id, tweet.deleted) for tweet in tweets if tweet]

    async def all_author_ids(self) -> list[tuple[int, int, bool]]:
        """Return the same: in memory there is only one table."""
        return await self.all_ids()

    async def scan_run(self, author_ids: Iterable[int], limit: int = 1000) -> AsyncIterator[list[Tweet]]:
        """Yield the newest `limit` tweets of each author, in the order of `author_ids`."""
        for author_id in author_ids:
            yield await self.by_author(author_id, None, limit)
