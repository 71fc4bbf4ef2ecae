"""Test doubles for the relay: the event log, the clock, the marks."""

from __future__ import annotations

from system.kernel import clock, events
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from tests.helpers.races_bench import Bench, Swapped


async def rows(bench: Bench, author: int) -> list[Tweet]:
    return await bench.ports.tweets.by_author(author, None, 100)


class Gathering:
    """An event log that records published events, or refuses them."""

    def __init__(self) -> None:
        self.published: list[events.Event] = []
        self.refuses = False

    async def publish(self, events_):
        if self.refuses:
            raise StoreUnavailable("the log is away")
        self.published += events_

    def ids(self) -> list[str]:
        return [event.id for event in self.published]


def with_own_marks(bench: Bench):
    """Return the tweet store with separate marks: the tests shift time, and stored marks only rise."""
    marks: dict[int, int] = {}

    async def mark(shard):
        return marks.get(shard, 0)

    async def set_mark(shard, bucket):
        marks[shard] = max(bucket, marks.get(shard, 0))

    return Swapped(bench.ports.tweets, outbox_mark=mark, set_outbox_mark=set_mark)


class Shifted(clock.SystemClock):
    """The system clock, `ahead_s` seconds ahead."""

    ahead_s = 0.0

    def wall_ms(self) -> int:
        return super().wall_ms() + int(self.ahead_s * 1_000)
