"""Contract of every event log: order per key, no skipped records, no automatic commits."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
import time

from system.kernel import events
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Event
from tests.helpers.durable_stores import durable_settings, group, log, real_log


def _event(number: int, key: int = 1, topic: str = "new_tweet") -> Event:
    return Event(topic, key, f"e{number}", {"n": number}, "trace")


async def _poll(consumer, count: int, timeout_s: float = 8.0):
    """Poll until `count` records arrive or the timeout expires."""
    records, end = [], time.monotonic() + timeout_s
    while len(records) < count and time.monotonic() < end:
        records += await consumer.poll(100, 0.2)
    return records


def _names(records) -> list[str]:
    return [record.event.id for record in records]


async def test_a_new_group_starts_at_the_earliest_record_in_order(log, group):
    """Point 14: records published before the group existed are not missed; order holds per key."""
    await log.publish([_event(n, key=7) for n in range(50)])

    consumer = await log.consumer(group, ["new_tweet"])
    records = await _poll(consumer, 50)
    await consumer.close()

    assert _names(records) == [f"e{n}" for n in range(50)]
    assert len({record.partition for record in records}) == 1
    assert records[3].event == _event(3, key=7)


async def test_nothing_is_committed_automatically(log, group):
    """Point 14: records of a worker that dies before its commit are redelivered."""
    await log.publish([_event(n) for n in range(5)])
    first = await log.consumer(group, ["new_tweet"])
    assert len(await _poll(first, 5)) == 5
    await first.close()

    second = await log.consumer(group, ["new_tweet"])
    again = await _poll(second, 5)
    await second.close()

    assert _names(again) == ["e0", "e1", "e2", "e3", "e4"]


async def test_a_commit_covers_exactly_the_polled_records(log, group):
    """The next member continues with the first record that was not polled."""
    await log.publish([_event(n) for n in range(5)])
    first = await log.consumer(group, ["new_tweet"])
    polled = []
    while len(polled) < 2:
        polled += await first.poll(2 - len(polled), 1.0)
    await first.commit()
    await first.commit()
    await first.close()

    second = await log.consumer(group, ["new_tweet"])
    rest = await _poll(second, 3)
    await second.close()

    assert _names(polled) == ["e0", "e1"]
    assert _names(rest) == ["e2", "e3", "e4"]


async def test_groups_are_independent(log, group):
    """Each group gets every event."""
    await log.publish([_event(1)])
    fanout, indexer = await log.consumer(group, ["new_tweet"]), await log.consumer(group + "-other", ["new_tweet"])

    polled = [_names(await _poll(consumer, 1)) for consumer in (fanout, indexer)]
    await fanout.close()
    await indexer.close()

    assert polled == [["e1"], ["e1"]]


async def test_one_consumer_reads_several_topics(log, group):
    """Records name their topic, without the namespace."""
    await log.publish([_event(1), _event(2, topic="new_follow"), _event(3, topic="tweet_deleted")])

    consumer = await log.consumer(group, ["new_tweet", "new_follow"])
    records = await _poll(consumer, 2)
    await consumer.close()

    assert {(record.topic, record.event.id) for record in records} == {("new_tweet", "e1"), ("new_follow", "e2")}


async def _commit_once_stable(consumer) -> None:
    """Commit. During a rebalance a commit is refused and certainly not done; the next poll continues."""
    try:
        await consumer.commit()
    except StoreUnavailable as refused:
        assert refused.definite


async def test_members_share_partitions_and_take_over_those_of_leavers(log, group):
    """Uncommitted records of a leaver go to the others; no member commits partitions that it lost."""
    await log.publish([_event(n, key=n) for n in range(40)])
    first = await log.consumer(group, ["new_tweet"])
    before = await _poll(first, 40)
    second = await log.consumer(group, ["new_tweet"])
    shared = await _poll(second, 1) if second else []
    await _commit_once_stable(first)
    await second.close()
    rest = await _poll(first, 40 - 20, timeout_s=3.0)
    await _commit_once_stable(first)
    lag = await log.lag(group, ["new_tweet"])
    while sum(lag.values()):
        rest += await _poll(first, 1)
        await _commit_once_stable(first)
        lag = await log.lag(group, ["new_tweet"])
    await first.close()

    assert len(set(_names(before))) == 40
    assert shared
    assert lag == {"new_tweet": 0}
    assert {f"e{n}" for n in range(40)} >= set(_names(rest)) >= set(_names(shared))


async def test_an_empty_poll_returns_after_its_timeout(log, group):
    """No new records is not an error."""
    consumer = await log.consumer(group, ["tweet_deleted"])
    started = time.monotonic()

    records = await consumer.poll(10, 0.3)
    waited_s = time.monotonic() - started
    await consumer.commit()
    await consumer.close()

    assert records == []
    assert 0.2 < waited_s < 2.0


async def test_a_waiting_poll_returns_as_soon_as_a_record_arrives(log, group):
    """The poll's timeout does not delay a push."""
    consumer = await log.consumer(group, ["new_tweet"])
    waiting = asyncio.create_task(consumer.poll(10, 5.0))
    await asyncio.sleep(0.2)
    started = time.monotonic()

    await log.publish([_event(1)])
    records = await waiting
    waited_s = time.monotonic() - started
    await consumer.close()

    assert _names(records) == ["e1"]
    assert waited_s < 2.0


async def test_a_record_that_cannot_be_handled_is_dead_lettered_in_full(log, group):
    """The dead-letter topic holds the same bytes; the event can be decoded from them and published again."""
    await log.publish([_event(1, key=9)])
    consumer = await log.consumer(group, ["new_tweet"])
    (record,) = await _poll(consumer, 1)

    await log.dead_letter(record, "the handler gave up", group)
    await consumer.commit()
    await consumer.close()
    dead_letters = await log.consumer(group + "-dead", ["new_tweet.dead"])
    (dead,) = await _poll(dead_letters, 1)
    await dead_letters.close()

    assert (dead.topic, dead.raw) == ("new_tweet.dead", record.raw)
    assert events.decode("new_tweet", b"9", dead.raw) == _event(1, key=9)


async def test_lag_counts_the_records_that_a_group_has_not_committed(log, group):
    """Also for a group that never had a member."""
    await log.publish([_event(n, key=n) for n in range(10)])

    assert await log.lag(group, ["new_tweet", "new_follow"]) == {"new_tweet": 10, "new_follow": 0}
    consumer = await log.consumer(group, ["new_tweet"])
    await _poll(consumer, 10)
    assert await log.lag(group, ["new_tweet"]) == {"new_tweet": 10}
    await consumer.commit()
    await log.publish([_event(11)])
    assert await log.lag(group, ["new_tweet"]) == {"new_tweet": 1}
    await consumer.close()


async def test_records_that_were_purged_before_a_group_read_them_are_counted(log, group):
    """A purge, or an outage longer than the retention, leaves a gap in the offsets.

    A group that had read everything missed nothing.
    """
    await log.publish([_event(n) for n in range(5)])
    reader = await log.consumer(group, ["new_tweet"])
    assert len(await _poll(reader, 5)) == 5
    await reader.commit()
    reader.missed()  # resets the counter: a new group also missed what other tests removed
    await reader.close()
    await log.publish([_event(n) for n in range(5, 8)])
    await log.purge()
    await log.publish([_event(8)])

    late = await log.consumer(group, ["new_tweet"])
    records = await _poll(late, 1)
    counts = late.missed(), late.missed()
    await log.publish([_event(9)])
    await _poll(late, 1)
    await late.close()

    assert (_names(records), counts, late.missed()) == (["e8"], (3, 0), 0)


async def test_after_a_clear_groups_report_no_missed_records(log):
    """A reset of a lab: its groups continue at the ends of their topics, whatever they had not read."""
    group = "fanout"  # one of the lab's
    await log.publish([_event(n) for n in range(5)])
    first = await log.consumer(group, ["new_tweet"])
    assert len(await _poll(first, 5)) == 5
    await first.close()  # nothing was committed
    await log.clear()
    await log.publish([_event(5)])

    second = await log.consumer(group, ["new_tweet"])
    records = await _poll(second, 1)
    missed = second.missed()
    await second.close()

    assert (_names(records), missed) == (["e5"], 0)
