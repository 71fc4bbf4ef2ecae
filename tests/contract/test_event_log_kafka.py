"""What only a real Kafka can show: a killed member, poison messages, refusals, driver errors."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
import sys
import time
from pathlib import Path

import aiokafka
import pytest
from aiokafka import errors as kafka

from system.kernel import settings
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Event
from system.ports import Record
from system.stores.kafka import consumer as kafka_consumer
from system.stores.kafka import link as kafka_link
from system.stores.kafka import log as kafka_log
from tests.helpers.durable_stores import durable_settings, group, real_log

ROOT = Path(__file__).resolve().parents[2]
# Joins the group, polls until it gets a record, prints so, and waits to be killed.
MEMBER = """
import asyncio, sys
from system.kernel import settings
from system.stores.kafka.log import KafkaLog
async def main():
    log = await KafkaLog.open(settings.from_env())
    consumer = await log.consumer(sys.argv[1], ["new_tweet"])
    while not await consumer.poll(100, 0.2):
        pass
    print("polled", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_every_error_of_the_driver_says_whether_it_happened():
    """The outcome of an error class without an entry for one of its bases would be a guess; there is none."""
    kinds = {kind for _, kind in inspect.getmembers(kafka, inspect.isclass)
             if issubclass(kind, Exception) and kind.__module__.startswith("aiokafka")}
    unmapped = [kind.__name__ for kind in kinds if not any(base in kafka_link.DEFINITE for base in kind.__mro__)]

    assert len(kinds) > 80
    assert unmapped == []


@pytest.mark.parametrize(("error", "definite"), [
    (kafka.MessageSizeTooLargeError(), True),
    (kafka.CommitFailedError(), True),
    (kafka.ProducerClosed(), True),
    (kafka.RequestTimedOutError(), False),
    (kafka.NotEnoughReplicasAfterAppendError(), False),
    (kafka.KafkaConnectionError(), False),
    (kafka.OutOfOrderSequenceNumber(), False),
    (TimeoutError(), False),
], ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value))
def test_only_a_certain_refusal_is_definite(error, definite):
    """A record that was in flight may be in the log."""
    ours = kafka_link.mapped(error, "publish")

    assert isinstance(ours, StoreUnavailable)
    assert ours.definite is definite


async def test_a_refused_connection_is_a_definite_failure():
    """A log that never connected published nothing."""
    at = settings.from_env({})
    stores = dataclasses.replace(at.stores, kafka=("127.60.20.99:9092",))

    with pytest.raises(StoreUnavailable) as caught:
        await kafka_log.KafkaLog.open(dataclasses.replace(at, stores=stores))

    assert caught.value.definite is True


@pytest.mark.real
async def test_bytes_that_are_no_event_are_returned_with_their_problem(real_log, group):
    """A poison message does not block the partition: it can be dead-lettered, and the next record is read."""
    producer = await real_log._open_producer()
    topic = real_log._settings.topic("new_tweet")
    await producer.send_and_wait(topic, value=b"\xff not json", key=b"1")
    await producer.send_and_wait(topic, value=b'{"id": "x"}', key=b"not a number")
    await real_log.publish([Event("new_tweet", 1, "good", {})])

    consumer = await real_log.consumer(group, ["new_tweet"])
    records = []
    while len(records) < 3:
        records += await consumer.poll(10, 1.0)
    bad = [record for record in records if record.event is None]
    await real_log.dead_letter(bad[0], bad[0].problem, group)
    await consumer.close()

    assert sorted(record.raw for record in bad) == [b'{"id": "x"}', b"\xff not json"]
    assert all("not an event" in record.problem for record in bad)
    assert [record.event.id for record in records if record.event] == ["good"]


@pytest.mark.real
@pytest.mark.parametrize("size", [1_048_000, 3_000_000])
async def test_a_record_that_is_too_large_uncompressed_can_be_dead_lettered(real_log, group, size):
    """The broker accepted it compressed. The dead letter keeps its start and names the full record."""
    huge = Record("new_tweet", 0, 17, None, problem="no event", raw=b"z" * size)
    await real_log.dead_letter(huge, "no event " + "y" * 100_000, group)

    dead_letters = aiokafka.AIOKafkaConsumer(real_log._settings.topic("new_tweet.dead"), bootstrap_servers=real_log._brokers,
                                        group_id=None, auto_offset_reset="earliest", max_partition_fetch_bytes=4_000_000)
    await dead_letters.start()
    try:
        async with asyncio.timeout(20):
            while (dead := await dead_letters.getone()).headers[1] != ("group", group.encode()):
                pass
    finally:
        await dead_letters.stop()
    headers = dict(dead.headers)
    assert dead.value == b"z" * kafka_log.DEAD_LETTER_BYTES
    assert (headers["origin"], headers["cut_from_bytes"]) == (b"new_tweet/0/17", str(size).encode())


@pytest.mark.real
async def test_records_of_a_killed_member_are_redelivered_within_seconds(real_log, durable_settings, group):
    """Point 14: the session timeout is 3 s, and records that it polled but did not commit are redelivered."""
    await real_log.publish([Event("new_tweet", n, f"e{n}", {}) for n in range(12)])
    env = os.environ | {"TWEETLAB_NAMESPACE": durable_settings.namespace, "PYTHONPATH": str(ROOT)}
    member = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEMBER, group, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    assert member.stdout is not None
    assert await asyncio.wait_for(member.stdout.readline(), 30) == b"polled\n"
    member.kill()
    await member.wait()

    killed = time.monotonic()
    successor = await real_log.consumer(group, ["new_tweet"])
    names: set[str] = set()
    while len(names) < 12 and time.monotonic() - killed < 20:
        names |= {record.event.id for record in await successor.poll(100, 0.5)}
    took_s = time.monotonic() - killed
    await successor.close()

    assert names == {f"e{n}" for n in range(12)}
    assert took_s < 12


@pytest.mark.real
async def test_an_event_that_is_too_large_is_a_definite_failure(real_log):
    """The client refuses it before it is sent."""
    with pytest.raises(StoreUnavailable) as caught:
        await real_log.publish([Event("new_tweet", 1, "big", {"text": "x" * 2_000_000})])

    assert caught.value.definite is True


@pytest.mark.real
async def test_a_publish_past_its_deadline_is_unknown_and_still_arrives(real_log, group):
    """The record stays in flight: at least once, never silently lost."""
    await real_log.publish([Event("new_tweet", 1, "first", {})])
    real_log._deadline_s = 0.0005

    with pytest.raises(StoreUnavailable) as caught:
        for n in range(50):
            await real_log.publish([Event("new_tweet", 1, f"late-{n}", {})])
    real_log._deadline_s = 5.0
    await real_log.publish([Event("new_tweet", 1, "last", {})])

    consumer = await real_log.consumer(group, ["new_tweet"])
    names: list[str] = []
    while "last" not in names:
        names += [record.event.id for record in await consumer.poll(100, 1.0)]
    await consumer.close()
    assert caught.value.definite is False
    assert names[:2] == ["first", "late-0"]


@pytest.mark.real
async def test_preparing_twice_changes_nothing(real_log):
    """All topics exist, dead-letter topics included; `ready` returns."""
    await real_log.prepare()
    await real_log.ready()

    assert sorted(name for name, _ in kafka_log.topics()) == [
        "new_follow", "new_follow.dead", "new_like", "new_like.dead", "new_tweet", "new_tweet.dead", "tweet_deleted",
        "tweet_deleted.dead"]


@pytest.mark.real
async def test_members_frozen_past_their_poll_interval_can_be_closed(real_log, group, monkeypatch):
    """A resumed member leaves its group by itself.

    Closed at that moment, it closes fully and does not cancel its caller.
    """
    monkeypatch.setattr(kafka_consumer, "MAX_POLL_MS", 1_000)
    before = asyncio.all_tasks()
    members = [await real_log.consumer(f"{group}-{number}", ["new_tweet"]) for number in range(12)]
    for number, member in enumerate(members):
        await member.poll(1, 0.01)
        member.delay_s = 0.001 * number
    time.sleep(1.5)  # noqa: ASYNC251 - simulates a frozen process

    async def close(member):
        await asyncio.sleep(member.delay_s)
        await member.close()

    results = await asyncio.gather(*(close(member) for member in members), return_exceptions=True)

    assert results == [None] * len(members)
    assert {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before} == set()
