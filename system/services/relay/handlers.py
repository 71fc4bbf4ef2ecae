"""Publishes the rows of the outboxes. That of PostgreSQL is drained; that of Cassandra is scanned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from system.kernel import checkpoints, clock
from system.kernel.events import NEW_TWEET, TWEET_DELETED, Event, tweet_of
from system.ports import EventLog, OutboxRow, TweetStore, UserDirectory
from system.services.relay import policy

DRAIN = 500          # rows per transaction, and events per call of the log
READS_AT_ONCE = 8    # partitions that a scan reads concurrently


class Announced:
    """Ids of events that were read from the topics, kept for as long as their outbox rows may be scanned."""

    def __init__(self, time_: clock.Clock) -> None:
        self._clock = time_
        self._seen_ms: dict[str, int] = {}

    def add(self, event_ids: Iterable[str]) -> None:
        """Keep these ids for `REMEMBER_MS`."""
        now_ms = self._clock.wall_ms()
        for event_id in event_ids:
            self._seen_ms.pop(event_id, None)  # re-inserted at the end, so that the oldest are first
            self._seen_ms[event_id] = now_ms
        while self._seen_ms:
            oldest = next(iter(self._seen_ms))
            if now_ms - self._seen_ms[oldest] <= policy.REMEMBER_MS:
                break
            del self._seen_ms[oldest]

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._seen_ms


class EdgeRelay:
    """The outbox in PostgreSQL: a transaction reads rows, publishes them to Kafka, and deletes them."""

    def __init__(self, users: UserDirectory, log: EventLog) -> None:
        self._users, self._log = users, log

    async def drain(self) -> int:
        """Publish all rows; return their number."""
        total = 0
        while True:
            count = await self._users.drain_outbox(DRAIN, self._publish)
            total += count
            if count < DRAIN:
                return total

    async def _publish(self, events: Sequence[Event]) -> None:
        await self._log.publish(events)
        await checkpoints.reached("relay.after_publish", count=len(events))


class TweetRelay:
    """The outbox in Cassandra: partitions are scanned repeatedly; rows expire by their TTL."""

    def __init__(self, store: TweetStore, log: EventLog, announced: Announced, time_: clock.Clock) -> None:
        self._store, self._log, self._announced, self._clock = store, log, announced, time_
        self._last_walk_ms: int | None = None
        self._marks: dict[int, int] = {}

    async def walk(self) -> int:
        """Scan the due buckets, publish overdue rows, raise the marks; return the number of rows published.

        Raises StoreUnavailable; the next scan then covers the same buckets again.
        """
        started_ms = self._clock.wall_ms()
        published = 0
        for shard in range(policy.SHARDS):
            published += await self._walk_shard(shard, started_ms)
        self._last_walk_ms = started_ms
        return published

    async def _walk_shard(self, shard: int, now_ms: int) -> int:
        if self._last_walk_ms is None:
            self._marks[shard] = await self._store.outbox_mark(shard)
            buckets: Sequence[int] = policy.first_walk(self._marks[shard], now_ms)
        else:
            buckets = policy.next_walk(self._last_walk_ms, now_ms)
        overdue: list[Event] = []
        waiting: list[int] = []
        for start in range(0, len(buckets), READS_AT_ONCE):
            part = buckets[start : start + READS_AT_ONCE]
            for rows in await asyncio.gather(*(self._store.outbox(shard, bucket) for bucket in part)):
                for row in rows:
                    self._sort(row, now_ms, overdue, waiting)
        for start in range(0, len(overdue), DRAIN):
            await self._publish(overdue[start : start + DRAIN])
        mark = policy.mark_after(now_ms, waiting)
        await checkpoints.reached("relay.before_mark", shard=shard, mark=mark)
        if mark > self._marks[shard]:
            await self._store.set_outbox_mark(shard, mark)
            self._marks[shard] = mark
        return len(overdue)

    async def _publish(self, events: Sequence[Event]) -> None:
        # A writer that failed after the outbox row may not have written the tweet's own rows. They are
        # written first: consumers read the current tweet, and would skip an event without those rows forever.
        await self._store.upsert([tweet_of(event.payload) for event in events if event.topic == NEW_TWEET])
        await self._store.mark_deleted([(event.payload["id"], event.payload["author_id"]) for event in events
                                        if event.topic == TWEET_DELETED])
        await self._log.publish(events)
        self._announced.add(event.id for event in events)

    def _sort(self, row: OutboxRow, now_ms: int, overdue: list[Event], waiting: list[int]) -> None:
        announced = row.event.id in self._announced
        if policy.overdue(row.written_ms, now_ms, announced):
            overdue.append(row.event)
        elif not announced:
            waiting.append(row.bucket)
