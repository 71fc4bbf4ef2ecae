"""A consumer's loop: poll, do, log the effects, commit. Nothing is committed before it is done.

What is no event, names what cannot be (`events.flaw`), or cannot be handled however often it is tried, goes to the dead-letter
topic, and only its acknowledgement lets the position move on. While a store or Kafka does not answer, the same records are tried
again with growing pauses; the position is kept.
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
TRIES = 3            # of a record that fails without a store being away
POLL_S = 1.0
MAX_RECORDS = 500

_log = logging.getLogger("tweetlab")

Handle = Callable[[list[Record]], Awaitable[None]]
Missed = Callable[[], Awaitable[None]]


async def pause(attempt: int) -> None:
    """Wait before try number `attempt` + 1."""
    await asyncio.sleep(max(0.01, retry.pause_s(attempt, PAUSES, random.random())))


async def until_available(work: Callable[[], Awaitable[None]], what: str) -> int:
    """Do `work` until no store is away. Return the number of retries. Raises what is no Unavailable."""
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
    """Return `handle` with a span for each sampled event of a poll: for who does all events of a poll in one go."""
    async def handle_traced(records: list[Record]) -> None:
        with tracing.consumed_together([(record.event.trace, record.topic) for record in records if record.event is not None]):
            await handle(records)

    return handle_traced


class Loop:
    """One member of a consumer group. `handle` gets the records of a poll that are events; `done` runs before each commit.

    `gather_s`: where the poll before was answered less than so long ago, more is awaited until then, so that a busy topic is
    handled in few large parts. What comes after a calm is handled at once.

    `missed` runs before the records of a poll are handled where others were removed before this group read
    them: the topic was purged, or the group was away for longer than its retention. It makes good what their
    effects would have been.
    """

    def __init__(self, log: EventLog, group: str, topics: Sequence[str], handle: Handle,
                 done: Callable[[], None] = lambda: None, gather_s: float = 0.0,
                 missed: Missed | None = None) -> None:
        self._log, self._group, self._topics, self._handle, self._done = log, group, topics, handle, done
        self._gather_s, self._answered_s = gather_s, float("-inf")
        self._make_good = missed
        self._count_missed = metrics.counter("tweetlab_missed_total", group=group)
        self.caught_up = asyncio.Event()
        self._buried: set[int] = set()  # of the records in hand
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
                    await self._once(consumer)
                    attempt = 0
            except (Unavailable, asyncio.CancelledError) as problem:
                # A client that cancels a task of its own may let that out, and the loop would end without a word.
                if isinstance(problem, asyncio.CancelledError) and background.is_cancelled():
                    raise
                attempt += 1
                _log.warning("group %s lost Kafka (%s); joins again", self._group, str(problem) or "its client cancelled a call")
                await pause(attempt)
            finally:
                if consumer is not None:
                    await self._leave(consumer)

    async def _leave(self, consumer: Consumer) -> None:
        try:
            await consumer.close()
        except LabError as problem:
            _log.warning("group %s could not leave: %s", self._group, problem)

    async def _once(self, consumer: Consumer) -> None:
        records = await consumer.poll(MAX_RECORDS, POLL_S)
        self._tell_lag(consumer)
        if not records:
            self.caught_up.set()
            return
        records += await self._more(consumer, MAX_RECORDS - len(records))
        began_s = time.monotonic()
        await self._look_for_missed(consumer)
        good = []
        for record in records:
            why = record.problem if record.event is None else events.flaw(record.event)
            if record.event is None or why:
                await self.bury(record, why)
            else:
                good.append(record)
        if good:
            await self._try(good)
        self._done()
        await checkpoints.reached("consumer.before_commit", group=self._group, count=len(records))
        await consumer.commit()
        self._took(time.monotonic() - began_s)
        for record in good:
            if id(record) not in self._buried:
                self._consumed[record.topic, "done"](1)
        self._buried.clear()

    async def _look_for_missed(self, consumer: Consumer) -> None:
        count = consumer.missed()
        if not count:
            return
        self._count_missed(count)
        _log.error("%d records were removed before the group %s read them (a purge, or a long outage)", count,
                   self._group)
        if self._make_good is not None:
            await until_available(self._make_good, "make good what was missed")

    async def _try(self, records: list[Record]) -> None:
        """Handle `records`; where one of them is refused for good, each by itself, so that the others need not wait behind it."""
        try:
            await self._handle(records)
        except WrongInput as problem:
            if len(records) == 1:
                await self.bury(records[0], str(problem))
                return
            for record in records:
                await self._try([record])

    def _tell_lag(self, consumer: Consumer) -> None:
        for topic, count in consumer.behind().items():
            metrics.gauge("tweetlab_consumer_lag_records", count, group=self._group, topic=topic)

    async def _more(self, consumer: Consumer, most: int) -> list[Record]:
        wait_s = self._answered_s + self._gather_s - time.monotonic()
        more: list[Record] = []
        if most > 0 and wait_s > 0:
            await asyncio.sleep(wait_s)
            more = await consumer.poll(most, 0.0)
        self._answered_s = time.monotonic()
        return more

    async def bury(self, record: Record, reason: str) -> None:
        """Write a record to the dead-letter topic, however long it takes."""
        _log.error("%s %d:%d goes to the dead letters: %s", record.topic, record.partition, record.offset, reason)
        await until_available(lambda: self._log.bury(record, reason, self._group), "dead letter")
        self._consumed[record.topic, "dead"](1)
        self._buried.add(id(record))
