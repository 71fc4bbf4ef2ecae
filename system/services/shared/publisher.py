"""Publishes events in the background: a response waits only for the durable row, not for Kafka.

Events that are not published because of a crash or a full queue are still in the outbox; the relay publishes
them.
"""

from __future__ import annotations

import asyncio
import logging

from system.kernel import background
from system.kernel.errors import StoreUnavailable, Unavailable
from system.kernel.events import Event, Tweet
from system.kernel.telemetry import metrics
from system.ports import EventLog, TweetCache

MAX_WAITING = 10_000  # events in the queue, about 10 MB; further events are left to the relay
BATCH = 500           # events per call of the log
GATHER_S = 0.01       # seconds between two publishes of a busy service; the first after a quiet period is immediate

_log = logging.getLogger("tweetlab")


class Publisher:
    """Publishes queued events in order. Events that arrive during a publish form the next batch.

    New tweets are put into the hot cache first, so that the handlers of their events need not read them from
    Cassandra. `left_behind`: number of events left to the relay.
    """

    def __init__(self, log: EventLog, hot: TweetCache) -> None:
        self._log, self._hot = log, hot
        self._queue: list[tuple[Event, Tweet | None]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.left_behind = 0
        self._left = metrics.counter("tweetlab_events_left_total")
        self._sent_s = float("-inf")

    def put(self, event: Event, tweet: Tweet | None = None) -> None:
        """Queue `event` for publishing and `tweet` for the cache.

        Never waits and never fails, because the event is in the outbox too.
        """
        if len(self._queue) >= MAX_WAITING:
            self._leave_to_relay(1)
            return
        self._queue.append((event, tweet))
        self._wake.set()

    def start(self) -> None:
        """Start publishing."""
        self._task = asyncio.ensure_future(background.run_forever(self._run, "publisher"))

    async def stop(self) -> None:
        """Publish what is queued, for at most two seconds, and stop."""
        if self._task is None:
            return
        deadline = asyncio.get_running_loop().time() + 2.0
        while self._queue and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:  # after a restart of this task the queue may not be empty
                self._wake.clear()
                await self._wake.wait()
            while self._queue:
                await asyncio.sleep(max(0.0, self._sent_s + GATHER_S - loop.time()))
                self._sent_s = loop.time()
                batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                try:
                    await self._fill([tweet for _, tweet in batch if tweet is not None])
                    await self._log.publish([event for event, _ in batch])
                except Unavailable as problem:
                    self._leave_to_relay(len(batch))
                    _log.warning("%d events left to the relay: %s", len(batch), problem)
                except BaseException as problem:
                    self._leave_to_relay(len(batch))
                    if not isinstance(problem, Exception):
                        raise
                    _log.exception("%d events left to the relay", len(batch))

    def _leave_to_relay(self, events: int) -> None:
        self.left_behind += events
        self._left(events)

    async def _fill(self, tweets: list[Tweet]) -> None:
        if tweets:
            try:
                await self._hot.fill(tweets)
            except StoreUnavailable:
                pass  # the first reader fills the cache from Cassandra
