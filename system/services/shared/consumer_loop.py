"""The loop of a Kafka consumer: poll, handle, log the effects, commit.

No offset is committed before its record is handled.

A record that is not an event, contains invalid values (`events.flaw`), or fails in every try is written to
the dead-letter topic; its offset is committed only after that write is acknowledged. While a store or Kafka
does not respond, the same records are retried with growing pauses, and the offset is not committed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence

from system.kernel import background, checkpoints, events
from system.kernel.errors import LabError, Unavailable, WrongInput
from system.kernel.policies import RetryKnobs
from system.kernel.resilience import retry
from system.kernel.telemetry import metrics, tracing
from system.ports import Consumer, EventLog, Record

PAUSES = RetryKnobs(attempts=0, budget=0.0, base_s=0.05, max_s=1.0)
TRIES = 3            # tries of a record that fails although every store responds
POLL_S = 1.0
MAX_RECORDS = 500

_log = logging.getLogger("tweetlab")

Handle = Callable[[list[Record]], Awaitable[None]]
Missed = Callable[[], Awaitable[None]]


async def pause(attempt: int) -> None:
    """Wait after failed try number `attempt`, counted from 1: exponential backoff with full jitter."""
    await asyncio.sleep(max(0.01, retry.pause_s(attempt, PAUSES, random.random())))


async def until_available(work: Callable[[], Awaitable[None]], what: str) -> int:
    """Run `work` again until it does not raise Unavailable; return the number of retries.

    `what`: names the work in the log. Raises every other error of `work`.
    """
    attempt = 0
    while True:
        try:
            await work()
            return attempt
        except Unavailable as problem:
            attempt += 1
            if attempt in (1, 10) or attempt % 100 == 0:
                _log.warning("%s: try %d failed: %s", what, attempt, problem)
            await pause(attempt)


def traced(handle: Handle) -> Handle:
    """Wrap `handle` so that it creates a span for each sampled event; for handlers that take a whole poll."""
    async def handle_traced(records: list[Record]) -> None:
        with tracing.consumed_together([(record.event.trace, record.topic) for record in records if record.event is not None]):
            await handle(records)

    return handle_traced


class Loop:
    """One member of a consumer group.

    `handle` receives the records of a poll that are events; `done` runs before each commit.

    `gather_s`: shortest time between two batches. A poll that returns sooner waits for the rest of that time
    and adds the records that have arrived, so that a busy topic is handled in few large batches. The first
    record after a quiet period is handled immediately.

    `missed` runs, before the records of a poll are handled, if Kafka removed earlier records that this group
    had not read: the topic was purged, or the group was down for longer than the retention. It repairs what
    those records would have changed.
    """

    def __init__(self, log: EventLog, group: str, topics: Sequence[str], handle: Handle,
                 done: Callable[[], None] = lambda: None, gather_s: float = 0.0,
                 missed: Missed | None = None) -> None:
        self._log, self._group, self._topics, self._handle, self._done = log, group, topics, handle, done
        self._gather_s, self._polled_s = gather_s, float("-inf")
        self._on_missed = missed
        self._count_missed = metrics.counter("tweetlab_missed_total", group=group)
        self.caught_up = asyncio.Event()
        self._buried: set[int] = set()  # id() of each record of the current poll that was dead-lettered
        self._took = metrics.observer("tweetlab_batch_seconds", group=group)
        self._consumed = {(topic, result): metrics.counter("tweetlab_consumed_total", group=group, topic=topic, result=result)
                          for topic in topics for result in ("done", "dead")}

    async def run(self) -> None:
        """Consume until cancelled."""
        attempt = 0
        while True:
            consumer: Consumer | None = None
            try:
                consumer = await self._log.consumer(self._group, self._topics)
                while True:
                    await self._poll_once(consumer)
                    attempt = 0
            except (Unavailable, asyncio.CancelledError) as problem:
                # If the Kafka client cancels a task of its own, its CancelledError may reach this loop and
                # would end it silently. Only a cancellation of this task ends it.
                if isinstance(problem, asyncio.CancelledError) and background.is_cancelled():
                    raise
                attempt += 1
                _log.warning("group %s lost Kafka (%s); rejoining", self._group, str(problem) or "its client cancelled a call")
                await pause(attempt)
            finally:
                if consumer is not None:
                    await self._leave(consumer)

    async def _leave(self, consumer: Consumer) -> None:
        try:
            await consumer.close()
        except LabError as problem:
            _log.warning("group %s could not leave cleanly: %s", self._group, problem)

    async def _poll_once(self, consumer: Consumer) -> None:
        records = await consumer.poll(MAX_RECORDS, POLL_S)
        self._report_lag(consumer)
        if not records:
            self.caught_up.set()
            return
        records += await self._more(consumer, MAX_RECORDS - len(records))
        started_s = time.monotonic()
        await self._handle_missed(consumer)
        valid = []
        for record in records:
            why = record.problem if record.event is None else events.flaw(record.event)
            if record.event is None or why:
                await self.dead_letter(record, why)
            else:
                valid.append(record)
        if valid:
            await self._try(valid)
        self._done()
        await checkpoints.reached("consumer.before_commit", group=self._group, count=len(records))
        await consumer.commit()
        self._took(time.monotonic() - started_s)
        for record in valid:
            if id(record) not in self._buried:
                self._consumed[record.topic, "done"](1)
        self._buried.clear()

    async def _handle_missed(self, consumer: Consumer) -> None:
        count = consumer.missed()
        if not count:
            return
        self._count_missed(count)
        _log.error("%d records were removed before the group %s read them (a purge, or a long outage)", count,
                   self._group)
        if self._on_missed is not None:
            await until_available(self._on_missed, "repair after missed records")

    async def _try(self, records: list[Record]) -> None:
        """Handle `records` together; if `handle` rejects one, handle each alone.

        So only the rejected record goes to the dead-letter topic.
        """
        try:
            await self._handle(records)
        except WrongInput as problem:
            if len(records) == 1:
                await self.dead_letter(records[0], str(problem))
                return
            for record in records:
                await self._try([record])

    def _report_lag(self, consumer: Consumer) -> None:
        for topic, count in consumer.behind().items():
            metrics.gauge("tweetlab_consumer_lag_records", count, group=self._group, topic=topic)

    async def _more(self, consumer: Consumer, most: int) -> list[Record]:
        wait_s = self._polled_s + self._gather_s - time.monotonic()
        more: list[Record] = []
        if most > 0 and wait_s > 0:
            await asyncio.sleep(wait_s)
            more = await consumer.poll(most, 0.0)
        self._polled_s = time.monotonic()
        return more

    async def dead_letter(self, record: Record, reason: str) -> None:
        """Write a record to the dead-letter topic. Retries until the log acknowledges it."""
        _log.error("%s %d:%d goes to the dead-letter topic: %s", record.topic, record.partition, record.offset, reason)
        await until_available(lambda: self._log.dead_letter(record, reason, self._group), "dead letter")
        self._consumed[record.topic, "dead"](1)
        self._buried.add(id(record))
