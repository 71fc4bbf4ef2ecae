"""Publishes the rows of the outboxes: PostgreSQL's is drained, Cassandra's is scanned."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from system.kernel import checkpoints, clock
from system.kernel.events import NEW_TWEET, TWEET_DELETED, Event, tweet_of
from system.ports import EventLog, OutboxRow, TweetStore, UserDirectory
from system.services.relay import policy

DRAIN = 500          # rows of one transaction, events handed to the log in one call
READS_AT_ONCE = 8    # partitions read concurrently during a first walk


class Announced:
    """Ids of events that were read from the topics, kept for as long as their outbox rows may be visited."""

    def __init__(self, time_: clock.Clock) -> None:
        self._clock = time_
        self._seen_ms: dict[str, int] = {}

    def add(self, event_ids: Iterable[str]) -> None:
        """Remember these ids."""
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
    """PostgreSQL's outbox: rows are deleted in the transaction in which the log acknowledged them."""

    def __init__(self, users: UserDirectory, log: EventLog) -> None:
        self._users, self._log = users, log

    async def drain(self) -> int:
        """Publish all rows. Return how many."""
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
    """Cassandra's outbox: partitions are scanned repeatedly, nothing is deleted."""

    def __init__(self, store: TweetStore, log: EventLog, announced: Announced, time_: clock.Clock) -> None:
        self._store, self._log, self._announced, self._clock = store, log, announced, time_
        self._last_walk_ms: int | None = None
        self._marks: dict[int, int] = {}

    async def walk(self) -> int:
        """Scan the due buckets, publish overdue rows, raise the marks. Return how many were published.

        Raises StoreUnavailable; the next walk then starts where the last successful one started.
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
        # A writer that died or failed after the outbox row did not change the tweet's own rows. Consumers
        # read the current tweet: an event published before those rows would be skipped forever.
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
