"""Races around consumers and worker numbers (correctness points 14, 15), on the real servers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time

import pytest

from system.kernel import checkpoints, clock, events, ids
from system.kernel.errors import Conflict, Overloaded
from system.kernel.resilience import guard
from system.observe.stores import GROUPS
from system.ports import Kind
from system.services.fanout import worker as fanout_worker
from system.services.shared.consumer_loop import Loop
from system.services.tweets.handlers import IdSource
from system.services.tweets.worker_lease import Leasing
from tests.helpers.races_bench import Swapped
from tests.helpers.services_rig import stored, until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


CANNOT_BE = (2**63, -1, "abc", None, 7.5)
FIELDS = ((events.NEW_TWEET, "id"), (events.NEW_TWEET, "author_id"), (events.TWEET_DELETED, "id"),
          (events.NEW_FOLLOW, "followee_id"), (events.NEW_LIKE, "tweet_id"))
EVENTS = {
    events.NEW_TWEET: lambda tweet, reader: events.new_tweet(tweet),
    events.TWEET_DELETED: lambda tweet, reader: events.tweet_deleted(tweet.id, tweet.author_id),
    events.NEW_FOLLOW: lambda tweet, reader: events.new_follow(reader, tweet.author_id, True, 1),
    events.NEW_LIKE: lambda tweet, reader: events.new_like(reader, tweet.id, True, 1),
}


def soon() -> int:
    """A deadline ten seconds ahead, monotonic ns."""
    return time.monotonic_ns() + 10 * 10**9


# ---- 14: consumers ---------------------------------------------------------------------------------------


async def test_the_effect_of_a_worker_that_dies_before_its_commit_is_repeated_by_the_next(bench):
    """Point 14. Offsets are committed manually after the effect; with automatic commits the record could be lost."""
    (author,) = await bench.people(1)
    seen: list[str] = []
    tweet = await stored(bench.ports, author)

    async def handle(records):
        seen.extend(record.event.id for record in records)

    class Killed(BaseException):
        """Not an Exception, so that no handler of the loop catches it."""

    async def die(**_):
        raise Killed

    await bench.ports.log.publish([events.new_tweet(tweet)])
    group = f"dies-{tweet.id}"
    with checkpoints.at("consumer.before_commit", die), pytest.raises(Killed):
        await asyncio.wait_for(Loop(bench.ports.log, group, (events.NEW_TWEET,), handle).run(), 20)
    assert str(tweet.id) in seen
    seen.clear()

    async with _running(Loop(bench.ports.log, group, (events.NEW_TWEET,), handle)):
        await until(lambda: _true(str(tweet.id) in seen))


async def test_a_new_group_starts_at_the_beginning(bench):
    """Point 14. Records published before the first member joined are handled; the default `latest` would skip them."""
    (author,) = await bench.people(1)
    tweet = await stored(bench.ports, author)
    await bench.ports.log.publish([events.new_tweet(tweet)])
    seen: list[str] = []

    async def handle(records):
        seen.extend(record.event.id for record in records)

    async with _running(Loop(bench.ports.log, f"new-{tweet.id}", (events.NEW_TWEET,), handle)):
        await until(lambda: _true(str(tweet.id) in seen))

    assert str(tweet.id) in seen


async def test_a_poison_record_goes_to_the_dead_letter_topic_and_the_next_is_handled(bench):
    """Point 14. After three attempts it is dead-lettered; only then is its offset committed."""
    (author,) = await bench.people(1)
    good = await stored(bench.ports, author)
    poison = events.Event(events.NEW_TWEET, author, f"poison-{good.id}", {"id": "no tweet at all"})
    buried: list[str] = []

    async def dead_letter(record, reason, group):
        buried.append(record.event.id)

    log = Swapped(bench.ports.log, dead_letter=dead_letter)
    lanes = fanout_worker.Lanes(bench.fanout(), _Effects(), clock.SystemClock())
    loop = Loop(log, f"poison-{good.id}", (events.NEW_TWEET,), lanes.handle)
    lanes.dead_letter = loop.dead_letter
    await bench.ports.log.publish([poison, events.new_tweet(good)])

    async with _running(loop):
        await until(lambda: _true(str(good.id) in lanes._effects.done))

    assert poison.id in buried and str(good.id) not in buried


@pytest.mark.parametrize("group", sorted(GROUPS))
async def test_events_with_impossible_ids_block_no_consumer(bench, group):
    """Each is dead-lettered with its reason; no store is called, so none counts as failing; the next event is handled."""
    author, reader = await bench.people(2)
    good = await stored(bench.ports, author)
    named = [(topic, field, value) for topic, field in FIELDS if topic in GROUPS[group] for value in CANNOT_BE]
    bad = [events.Event(topic, author, f"bad-{good.id}-{n}", EVENTS[topic](good, reader).payload | {field: value})
           for n, (topic, field, value) in enumerate(named)]
    bad_keys = [dataclasses.replace(EVENTS[topic](good, reader), key=key, id=f"key-{good.id}-{key}")  # no effect log takes 2**70
                for topic in GROUPS[group][:1] for key in (2**70, -1)]
    reasons, handled = {}, []

    async def dead_letter(record, reason, group):
        reasons[record.event.id] = reason

    async def handle(records):
        payloads = [record.event.payload for record in records if record.topic != events.NEW_FOLLOW]
        await bench.ports.tweets.get([payload.get("tweet_id", payload.get("id")) for payload in payloads])
        handled.extend(record.event.id for record in records)

    last = EVENTS[GROUPS[group][-1]](good, reader)
    await bench.ports.log.publish([*bad, *bad_keys, last])

    loop = Loop(Swapped(bench.ports.log, dead_letter=dead_letter), f"bad-{group}-{good.id}", GROUPS[group], handle)
    async with _running(loop):
        await until(lambda: _true(last.id in handled))
        await until(lambda: _true(all(event.id in reasons for event in [*bad, *bad_keys])))

    assert not {event.id for event in [*bad, *bad_keys]} & set(handled)
    assert all(field in reasons[event.id] for event, (_, field, _) in zip(bad, named, strict=True))
    assert all("its key" in reasons[event.id] for event in bad_keys)
    assert guard._worst("cassandra") == 0


async def test_repeated_and_reordered_events_converge_to_the_stored_state(bench):
    """Point 14. Events are hints: follow, unfollow, follow, delivered in reverse and twice, leave the edge as stored."""
    reader, author = await bench.people(2)
    posted = await bench.post(author, 2)
    users = bench.ports.users
    edges = [await users.follow(reader, author), await users.unfollow(reader, author), await users.follow(reader, author)]
    await bench.warm(reader)

    for edge in [*edges[::-1], *edges]:
        await bench.handle_edge(edge)
        await bench.warm(reader)
    assert await bench.home(reader) == posted[::-1]
    last = await users.unfollow(reader, author)
    for edge in [last, *edges]:
        await bench.handle_edge(edge)

    assert await bench.home(reader) == []
    assert await bench.ports.timelines.members(Kind.FOLLOWERS, author) in (None, [])


# ---- 15: worker numbers ----------------------------------------------------------------------------------


async def test_a_process_paused_past_its_lease_issues_no_id(bench):
    """Point 15. After its lease expired, another process may have its number: with less than 1 s of lease left, no ids."""

    class Stopped(clock.SystemClock):
        ahead_ns = 0

        def monotonic_ns(self) -> int:
            return super().monotonic_ns() + self.ahead_ns

    source, time_ = IdSource(), Stopped()
    leasing = Leasing(bench.ports.leases, source, "sleeper", time_)
    await leasing.start()
    try:
        await source.next(soon())
        time_.ahead_ns = 9_100_000_000  # of a lease of 10 s
        with pytest.raises(Overloaded):
            await source.next(soon() + time_.ahead_ns)
        time_.ahead_ns = 0
        await leasing.renew()
        await source.next(soon())
    finally:
        await leasing.stop()


async def test_many_processes_issue_different_ids(bench):
    """Point 15. Eight processes lease numbers and issue 500 ids each concurrently: no two are equal."""
    sources = [IdSource() for _ in range(8)]
    leasings = [Leasing(bench.ports.leases, source, f"p{n}", clock.SystemClock()) for n, source in enumerate(sources)]
    for leasing in leasings:
        await leasing.start()
    try:
        async def issue(source: IdSource) -> list[int]:
            return [await source.next(soon()) for _ in range(500)]

        issued = await asyncio.gather(*map(issue, sources))
    finally:
        for leasing in leasings:
            await leasing.stop()

    assert len({each for part in issued for each in part}) == 8 * 500


async def test_a_reassigned_number_is_not_used_again(bench):
    """Point 15. The lease expired and another process has the number: a renewal is refused, and a new number is taken."""
    source = IdSource()
    leasing = Leasing(bench.ports.leases, source, "late", clock.SystemClock())
    await leasing.start()
    before = source.generator.lease

    async def given_away(holder, lease, ttl_s):
        raise Conflict(f"Worker number {lease.worker} was given to another holder.")

    leasing._leases = Swapped(bench.ports.leases, renew=given_away)
    await leasing.renew()

    assert source.generator.lease.worker != before.worker
    assert ids.worker_of(await source.next(soon())) == source.generator.lease.worker
    leasing._leases = bench.ports.leases
    await leasing.stop()


class _Effects:
    """Stores the ids of effects."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def write(self, effect) -> None:
        self.done.append(effect.event)


@contextlib.asynccontextmanager
async def _running(loop: Loop):
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def _true(value: bool) -> bool:
    return value
