"""Publishing in the background: an answer waits for the durable row only, the event follows at once.

What a crash, or a full queue, leaves behind stands in the outbox; the relay publishes it.
"""

from __future__ import annotations

import asyncio
import logging

from system.kernel import background
from system.kernel.errors import StoreUnavailable, Unavailable
from system.kernel.events import Event, Tweet
from system.kernel.telemetry import metrics
from system.ports import EventLog, TweetCache

MAX_WAITING = 10_000  # events; about 10 MB. Beyond it events are left to the relay
BATCH = 500           # events handed to the log at once
GATHER_S = 0.01       # seconds between two publishes of a busy service; the first after a calm goes at once

_log = logging.getLogger("tweetlab")


class Publisher:
    """Hands events to the log in order, many at a time while an acknowledgement is awaited.

    New tweets are put into the hot cache on the way, so that who handles the event need not read them from Cassandra.
    """

    def __init__(self, log: EventLog, hot: TweetCache) -> None:
        self._log, self._hot = log, hot
        self._waiting: list[tuple[Event, Tweet | None]] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.left_behind = 0
        self._left = metrics.counter("tweetlab_events_left_total")
        self._sent_s = float("-inf")

    def put(self, event: Event, tweet: Tweet | None = None) -> None:
        """Publish `event` soon; cache `tweet`. Never waits, never fails: the outbox holds it too."""
        if len(self._waiting) >= MAX_WAITING:
            self._leave(1)
            return
        self._waiting.append((event, tweet))
        self._wake.set()

    def start(self) -> None:
        """Begin to publish."""
        self._task = asyncio.ensure_future(background.keep(self._run, "publisher"))

    async def stop(self) -> None:
        """Publish what waits, for at most two seconds, and end."""
        if self._task is None:
            return
        deadline = asyncio.get_running_loop().time() + 2.0
        while self._waiting and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:  # some wait already where it begins again
                self._wake.clear()
                await self._wake.wait()
            while self._waiting:
                await asyncio.sleep(max(0.0, self._sent_s + GATHER_S - loop.time()))
                self._sent_s = loop.time()
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                try:
                    await self._fill([tweet for _, tweet in batch if tweet is not None])
                    await self._log.publish([event for event, _ in batch])
                except Unavailable as problem:
                    self._leave(len(batch))
                    _log.warning("%d events are left to the relay: %s", len(batch), problem)
                except BaseException as problem:
                    self._leave(len(batch))
                    if not isinstance(problem, Exception):
                        raise
                    _log.exception("%d events are left to the relay", len(batch))

    def _leave(self, events: int) -> None:
        self.left_behind += events
        self._left(events)

    async def _fill(self, tweets: list[Tweet]) -> None:
        if tweets:
            try:
                await self._hot.fill(tweets)
            except StoreUnavailable:
                pass  # readers fill it from Cassandra
