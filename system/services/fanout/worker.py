"""The fan-out worker: `python -m system.services.fanout.worker`.

Events of one poll with different keys run concurrently, events of one key in order. The offset is committed
only after all of them are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from system.kernel import clock, events
from system.kernel import effect_log as effects
from system.kernel.errors import Unavailable
from system.kernel.events import Event
from system.kernel.settings import Settings
from system.kernel.telemetry import metrics, tracing
from system.ports import Ports, Record
from system.services.fanout.audience import Audience
from system.services.fanout.handlers import Done, Fanout
from system.services.shared import consumer_loop, hosting
from system.services.shared.reads import Reads

NAME = "fanout"
NEEDS = ("timelines", "hot", "tweets", "users", "log")
GROUP = "fanout"
GATHER_S = 0.02  # of a busy topic: a poll and a commit cost Kafka the same for one record as for ten
LANES = 16  # keys handled at once; Redis is single-threaded, so more would only wait there


class Lanes:
    """Handles the records of a poll."""

    def __init__(self, fanout: Fanout, effect_log: effects.EffectLog, time_: clock.Clock) -> None:
        self._effects, self._clock = effect_log, time_
        self._slots = asyncio.Semaphore(LANES)
        self.dead_letter: Callable[[Record, str], Awaitable[None]] = _no_dead_letters
        self._handlers: dict[str, Callable[[Event], Awaitable[Done]]] = {
            events.NEW_TWEET: fanout.new_tweet, events.TWEET_DELETED: fanout.tweet_deleted, events.NEW_FOLLOW: fanout.new_follow,
        }

    async def handle(self, records: list[Record]) -> None:
        """Apply the effects of `records`; return when each is done or in the dead-letter topic."""
        lanes: dict[tuple[bool, int], list[Record]] = {}
        for record in records:
            assert record.event is not None
            lanes.setdefault((record.event.topic == events.NEW_FOLLOW, record.event.key), []).append(record)
        # Oldest first across partitions: appending to a list is cheap, inserting into its middle is not.
        oldest_first = sorted(lanes.values(), key=_age)
        await asyncio.gather(*(self._lane(lane) for lane in oldest_first))

    async def _lane(self, records: list[Record]) -> None:
        async with self._slots:
            for record in records:
                assert record.event is not None
                with tracing.consumed(record.event.trace, record.event.topic) as span:
                    await self._handle_one(record, record.event, span)

    async def _handle_one(self, record: Record, event: Event, span: tracing.Span) -> None:
        """Handle one event: retry without limit while a store is away, else TRIES times, then dead-letter it."""
        tries, attempt = 0, 0
        while True:
            try:
                done = await self._handlers[event.topic](event)
                self._write(event, done, attempt)
                span.set_attribute("tweetlab.path", done.path)
                span.set_attribute("tweetlab.targets", done.targets)
                return
            except Unavailable:
                attempt += 1
            except Exception as problem:
                tries, attempt = tries + 1, attempt + 1
                if tries >= consumer_loop.TRIES:
                    span.fail(problem)
                    await self.dead_letter(record, repr(problem))
                    return
            await consumer_loop.pause(attempt)

    def _write(self, event: Event, done: Done, attempts: int) -> None:
        self._effects.write(effects.Effect(
            GROUP, event.id, event.key, event.topic, done.applied, done.path, done.targets,
            self._clock.monotonic_ns(), self._clock.wall_ms(), done.retries + attempts))
        if event.topic == events.NEW_TWEET and done.applied:
            delay_s = (self._clock.wall_ms() - int(event.payload["created_ms"])) / 1e3
            metrics.observe("tweetlab_delivery_seconds", max(0.0, delay_s), path=done.path)


def _age(records: list[Record]) -> int:
    """Return the id of a lane's first tweet, which grows with time; 0 if it has none: follows run first."""
    event = records[0].event
    tweet_id = event.payload.get("id") if event is not None else None
    return tweet_id if isinstance(tweet_id, int) else 0


async def _no_dead_letters(record: Record, reason: str) -> None:
    raise RuntimeError(f"no dead-letter topic is set for {record.topic}: {reason}")


def build(ports: Ports, settings: Settings) -> hosting.Service:
    """Build the worker on `ports`."""
    time_ = clock.SystemClock()
    audience = Audience(ports.users, hot=ports.hot, on_replaced=ports.timelines.clear)
    fanout = Fanout(ports, Reads(ports, settings.policies).lists, audience, settings.policies, time_)
    effect_log = effects.EffectLog(settings.effects, settings.instance)
    lanes = Lanes(fanout, effect_log, time_)
    loop = consumer_loop.Loop(ports.log, GROUP, events.GROUPS[GROUP], lanes.handle, effect_log.flush, GATHER_S,
                          missed=ports.timelines.clear)
    lanes.dead_letter = loop.dead_letter

    async def stop() -> None:
        effect_log.close()

    return hosting.Service(loops=(loop.run,), stop=stop)


if __name__ == "__main__":
    hosting.run(NAME, NEEDS, build)
