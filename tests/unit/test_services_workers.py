"""Workers on memory adapters: what a crash, or a poison record, must not cost the others."""

from __future__ import annotations

import asyncio
import contextlib

from system import bootstrap
from system.kernel import clock, events, ids, policies, settings
from system.kernel.errors import StoreUnavailable, WrongInput
from system.kernel.events import Tweet
from system.ports import Kind
from system.services.relay.handlers import Announced, TweetRelay
from system.services.search import handlers
from system.services.search import worker as indexer
from system.services.shared import hosting
from system.services.shared.consumer_loop import Loop
from system.services.shared.list_rebuild import CachedLists
from tests.fakes.likes import MemoryLikes
from tests.fakes.log import MemoryLog
from tests.fakes.search import MemorySearch
from tests.fakes.timelines import MemoryHotTweets, MemoryTimelines
from tests.fakes.tweets import MemoryTweets
from tests.fakes.users import MemoryUsers

NOW_MS = 1_800_000_000_000


def tweet(sequence: int, text: str = "once") -> Tweet:
    tweet_id = ids.compose(NOW_MS, 1, sequence)
    return Tweet(tweet_id, 7, text, NOW_MS, tweet_id)


class TornStore(MemoryTweets):
    """A store whose writer died inside an append: the outbox row exists, the tweet does not yet."""

    def _write(self, written: Tweet) -> None:
        if self.whole:
            super()._write(written)

    whole = True


async def test_the_relay_writes_the_tweet_before_it_publishes_the_event():
    """Consumers read the current tweet: an event before its row would be skipped for good."""
    time_ = clock.FakeClock(NOW_MS)
    store, log = TornStore(time_), MemoryLog()
    store.whole = False
    await store.append(tweet(1))
    store.whole = True
    existed: list[bool] = []

    class RecordingLog(MemoryLog):
        async def publish(self, batch):
            existed.extend([int(event.id) in await store.get([int(event.id)]) for event in batch])
            await log.publish(batch)

    time_.advance(5.0)
    assert await TweetRelay(store, RecordingLog(), Announced(time_), time_).walk() == 1

    assert existed == [True]


async def test_the_relay_publishes_a_large_backlog_in_batches():
    """One publish has two seconds: 1,200 events in one call may never get through."""
    time_ = clock.FakeClock(NOW_MS)
    store, sizes = MemoryTweets(time_), []
    for sequence in range(1_200):
        await store.append(tweet(4 * sequence % 4096 + sequence // 1024))

    class RecordingLog(MemoryLog):
        async def publish(self, batch):
            sizes.append(len(batch))

    time_.advance(5.0)
    published = await TweetRelay(store, RecordingLog(), Announced(time_), time_).walk()

    assert published == sum(sizes) == 1_200 and max(sizes) <= 500


async def test_a_leaked_cancellation_does_not_end_a_consumer():
    """A Kafka client that cancels a task of its own may leak that from any call; the group is joined again."""
    log, handled = MemoryLog(), []

    class Frail(MemoryLog):
        joined = 0

        async def consumer(self, group, topics):
            real = await log.consumer(group, topics)
            Frail.joined += 1
            number = Frail.joined

            class Member:
                async def poll(self, most, timeout_s):
                    if number == 1:
                        raise asyncio.CancelledError
                    return await real.poll(most, 0.01)

                async def close(self):
                    await real.close()
                    if number == 1:
                        raise StoreUnavailable("connection lost", definite=True)

                commit, behind, missed = real.commit, real.behind, real.missed

            return Member()

    async def handle(records):
        handled.extend(record.event.id for record in records)

    await log.publish([events.Event(events.TWEET_DELETED, 7, "e1", {"id": 1, "author_id": 7})])
    task = asyncio.create_task(Loop(Frail(), "group", (events.TWEET_DELETED,), handle).run())
    async with asyncio.timeout(5):
        while not handled:
            await asyncio.sleep(0.01)

    task.cancel()  # this one is meant
    await asyncio.wait({task})
    assert handled == ["e1"] and Frail.joined == 2 and task.cancelled()


async def test_purged_records_are_repaired_before_the_next_record_is_handled():
    """A purged topic, or an outage beyond the retention, is detected by a gap in the offsets."""
    log, calls = MemoryLog(), []

    async def handle(records):
        calls.extend(record.event.id for record in records)

    async def repair():
        if "tried" not in calls:
            calls.append("tried")
            raise StoreUnavailable("Redis is away", definite=True)
        calls.append("made good")

    def deleted(number):
        return events.Event(events.TWEET_DELETED, 7, f"e{number}", {"id": number, "author_id": 7})

    await log.publish([deleted(1), deleted(2)])
    await log.purge()
    await log.publish([deleted(3)])
    task = asyncio.create_task(Loop(log, "group", (events.TWEET_DELETED,), handle, missed=repair).run())
    async with asyncio.timeout(5):
        while "e3" not in calls:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})

    assert calls == ["tried", "made good", "e3"]


async def test_a_record_that_a_store_refuses_for_good_is_dead_lettered_and_the_others_are_handled():
    """A retry cannot fix it: the others must not wait behind it, and the process must not crash repeatedly."""
    log, done = MemoryLog(), []

    async def handle(records):
        if any(record.event.payload["id"] == 2 for record in records):
            raise WrongInput("no column takes that")
        done.extend(record.event.payload["id"] for record in records)

    await log.publish([events.Event(events.TWEET_DELETED, 7, f"e{n}", {"id": n, "author_id": 7}) for n in (1, 2, 3)])
    task = asyncio.create_task(Loop(log, "group", (events.TWEET_DELETED,), handle).run())
    async with asyncio.timeout(5):
        while sum((await log.lag("group", [events.TWEET_DELETED])).values()):
            assert not task.done(), task
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})

    dead = events.TWEET_DELETED + events.DEAD
    (buried,) = [record for (topic, _), batch in log.records.items() if topic == dead for record in batch]
    assert done == [1, 3] and buried.raw == events.Event(events.TWEET_DELETED, 7, "e2", {"id": 2, "author_id": 7}).encode()


async def test_a_loop_that_exits_ends_its_process(monkeypatch):
    """A worker without its loop would only look healthy; the supervisor restarts it."""
    ends = []
    monkeypatch.setattr(hosting.os, "_exit", ends.append)

    async def cancelled():
        raise asyncio.CancelledError

    async def broken():
        raise RuntimeError

    for loop in (cancelled, broken):
        built = hosting.Service(loops=(loop,))
        host = hosting.Host("worker", (), lambda *_, built=built: built, settings.from_env({}), bootstrap.ports_of({}))
        await host.open()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await host.close()

    assert ends == [1, 1]


async def test_a_refused_document_is_dead_lettered_and_the_others_are_indexed():
    """Otherwise the indexer would crash, restart, and read the same record forever."""
    class Picky(MemorySearch):
        async def index(self, documents):
            if any(document.tweet.text == "poison" for document in documents):
                raise WrongInput("refused")
            return await super().index(documents)

    store, log, index = MemoryTweets(), MemoryLog(), Picky()
    for each in (tweet(1, "walrus one"), tweet(2, "poison"), tweet(3, "walrus two")):
        await store.append(each)
        await log.publish([events.new_tweet(each)])
    ports = bootstrap.ports_of({"tweets": store, "log": log, "index": index, "likes": MemoryLikes(MemoryUsers())})
    loop, _ = indexer.build(ports, settings.from_env({})).loops
    task = asyncio.ensure_future(loop())
    for _ in range(100):
        await asyncio.sleep(0.01)
        if not sum((await log.lag(indexer.GROUP, [events.NEW_TWEET])).values()):
            break
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert await index.found([tweet(n).id for n in (1, 2, 3)]) == {tweet(1).id, tweet(3).id}
    assert len(log.records[events.NEW_TWEET + events.DEAD, 0]) == 1
    assert sum((await log.lag(indexer.GROUP, [events.NEW_TWEET])).values()) == 0


async def test_the_sweep_continues_in_batches_and_survives_an_outage(monkeypatch):
    """Only documents of tweets deleted more than `keep_deleted_s` ago are removed.

    A store that is away is retried later.
    """
    monkeypatch.setattr(indexer, "SWEEP_PAUSE_S", 0.01)
    monkeypatch.setattr(indexer, "SWEEP_EVERY_S", 0.02)
    keeps: list[float] = []
    left = [handlers.SWEEP_AT_ONCE, handlers.SWEEP_AT_ONCE, 7, None, 0]

    class Sweeping:
        async def sweep(self, keep_s):
            keeps.append(keep_s)
            swept = left.pop(0) if left else 0
            if swept is None:
                raise StoreUnavailable("away")
            return swept

    task = asyncio.ensure_future(indexer.sweep(Sweeping(), 86_400.0))
    await asyncio.sleep(0.3)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert left == [] and len(keeps) >= 5 and set(keeps) == {86_400.0}


async def test_a_single_event_is_handled_immediately_and_a_stream_in_few_batches():
    """Batching costs a quiet topic nothing: the pause counts from the last poll."""
    log, parts = MemoryLog(), []

    async def handle(records):
        parts.append(len(records))

    loop = Loop(log, "gatherers", (events.NEW_TWEET,), handle, gather_s=0.2)
    task = asyncio.ensure_future(loop.run())
    await log.publish([events.new_tweet(tweet(0))])
    await asyncio.sleep(0.05)
    alone = list(parts)
    for sequence in range(1, 31):
        await log.publish([events.new_tweet(tweet(sequence))])
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert alone == [1]
    assert sum(parts) == 31 and len(parts) <= 5
    assert sum((await log.lag("gatherers", [events.NEW_TWEET])).values()) == 0


async def test_a_rebuild_that_outlives_its_mark_is_not_retried():
    """Under overload four rebuilds would run in the place of one, and none of them would be kept."""
    knobs = policies.Policies(timeline=policies.TimelineKnobs(building_ttl_s=0.01))
    lists = CachedLists(MemoryTimelines(knobs), MemoryHotTweets(), MemoryTweets(), MemoryUsers(), knobs.timeline)
    reads: list[int] = []

    async def slow(owner: int):
        reads.append(owner)
        await asyncio.sleep(0.02)
        return [], 0

    assert await lists.single_flight(Kind.HOME, 7, slow) is False
    assert reads == [7]
