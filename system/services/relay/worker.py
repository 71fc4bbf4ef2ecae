"""The relay: `python -m system.services.relay.worker`."""

from __future__ import annotations

import asyncio
import logging

from system.kernel import clock, events
from system.kernel.errors import Unavailable
from system.kernel.settings import Settings
from system.ports import Ports, Record
from system.services.relay import policy
from system.services.relay.handlers import Announced, EdgeRelay, TweetRelay
from system.services.shared import consumer_loop, hosting

NAME = "relay"
NEEDS = ("users", "tweets", "log")
LISTEN_S = 0.5     # seconds between two polls of a busy topic: no row is overdue before policy.GRACE_MS
CATCH_UP_S = 15.0  # longest wait for the topics to be read before the first scan, so that it republishes less

_log = logging.getLogger("tweetlab")


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the worker on `ports`."""
    announced = Announced(clock.SystemClock())
    edges = EdgeRelay(ports.users, ports.log)
    tweets = TweetRelay(ports.tweets, ports.log, announced, clock.SystemClock())

    async def remember(records: list[Record]) -> None:
        announced.add(record.event.id for record in records if record.event is not None)

    # One consumer group per instance: every relay must read all events.
    listener = consumer_loop.Loop(ports.log, f"relay-{settings.instance}", events.RELAYED, remember,
                             gather_s=LISTEN_S)

    async def edges_loop() -> None:
        while True:
            try:
                async for _ in ports.users.outbox_wakeups():
                    await edges.drain()
            except Unavailable as problem:
                _log.warning("the outbox of PostgreSQL is not drained: %s", problem)
            await consumer_loop.pause(3)

    async def tweets_loop() -> None:
        try:
            await asyncio.wait_for(listener.caught_up.wait(), CATCH_UP_S)
        except TimeoutError:
            _log.warning("the topics were not read to the end within %s s; some events will be published twice", CATCH_UP_S)
        while True:
            try:
                count = await tweets.walk()
                if count:
                    _log.info("published %d events that their writers had not", count)
            except Unavailable as problem:
                _log.warning("the outbox of Cassandra is not scanned: %s", problem)
            await asyncio.sleep(policy.TICK_S)

    return hosting.Service(loops=(listener.run, edges_loop, tweets_loop))


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
