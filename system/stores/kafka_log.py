"""The event log on Kafka: an idempotent producer, groups that commit by hand. Topics: `schema/topics.md`.

What the client would do by default and must not: commit by itself (a crash would skip records), start a new group at the
newest record (it would miss what was published before), keep a dead member for 10 s. A position is committed only for a
partition that this member still has: what was polled before a rebalance comes again, to whoever has it now.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any, Self

import aiokafka
from aiokafka import TopicPartition, admin
from aiokafka import errors as kafka

from system.kernel import events, tracing
from system.kernel.errors import LabError, StoreUnavailable, WrongInput
from system.kernel.events import Event
from system.kernel.guard import Guard
from system.kernel.settings import Settings
from system.ports import Consumer, Record
from system.stores import kafka_link as link

PARTITIONS = 4  # of a topic; a group can use as many workers
LINGER_MS = 1  # events of one moment share a request
SESSION_MS = 3000  # the broker must allow it: group.min.session.timeout.ms=2000
HEARTBEAT_MS = 500
MAX_POLL_MS = 60_000  # a member that does not ask for records for so long leaves its group
LEAVE_S = 5.0  # longest wait for a consumer that leaves its group
BATCH_BYTES = 256 * 1024  # of one partition; a full batch makes `publish` wait
BURIED_BYTES = 512 * 1024  # kept of a record that cannot be handled: with its headers a dead letter must fit where it fitted
REASON_BYTES = 4096
TRACEPARENT = "traceparent"  # header of a record whose request is sampled


class KafkaLog:
    """`EventLog` on the topics and groups of one namespace."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._brokers = list(settings.stores.kafka)
        self._deadline_s = settings.policies.timeout_s("kafka")
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._admin: admin.AIOKafkaAdminClient | None = None
        self._looker: aiokafka.AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()
        self._guard = Guard("kafka", settings.policies)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Connect a producer. Raises StoreUnavailable (definite) where no broker answers. Topics need `prepare` once."""
        log = cls(settings)
        await log._sender()
        return log

    async def close(self) -> None:
        """Send what is pending (for at most 2 s) and close. Consumers are closed by who opened them. Safe to repeat."""
        parts, self._producer, self._admin, self._looker = (self._producer, self._looker, self._admin), None, None, None
        for part in parts:
            if part is not None:
                await link.ended(part.close() if isinstance(part, admin.AIOKafkaAdminClient) else part.stop(), 2.0)

    async def ready(self) -> None:
        """Return where the brokers answer and all topics stand; raises StoreUnavailable otherwise."""
        control = await self._control()
        standing = set(await link.asked(control.list_topics(), "answer", self._deadline_s))
        missing = sorted({self._settings.topic(name) for name, _ in topics()} - standing)
        if missing:
            raise StoreUnavailable(f"Kafka lacks the topics {', '.join(missing)}; prepare the log first.", definite=True)

    async def prepare(self) -> None:
        """Create topics and dead-letter topics where they are missing; return when all have leaders. Safe to repeat."""
        control = await self._control()
        copies = min(3, len(self._brokers))
        settings = {"min.insync.replicas": "2"} if copies == 3 else {}
        wanted = [admin.NewTopic(self._settings.topic(name), count, copies, topic_configs=settings) for name, count in topics()]
        answer = await link.asked(control.create_topics(wanted, timeout_ms=20_000), "create topics", 30.0)
        for name, code, *_ in answer.topic_errors:
            if code not in (0, kafka.TopicAlreadyExistsError.errno):
                raise link.mapped(kafka.for_code(code)(name), f"create the topic {name}")
        await self._await_leaders([topic.name for topic in wanted])

    async def clear(self) -> None:
        """Delete all records of this namespace's topics. Offsets go on; groups see nothing of what was."""
        ends = await self._ends([name for name, _ in topics()])
        control = await self._control()
        gone = {place: admin.RecordsToDelete(before_offset=end) for place, (_, end) in ends.items() if end > 0}
        if gone:
            await link.asked(control.delete_records(gone), "delete records", 30.0)

    async def drop(self) -> None:
        """Remove this namespace's topics."""
        control = await self._control()
        await link.asked(control.delete_topics([self._settings.topic(name) for name, _ in topics()]), "delete topics", 30.0)

    # ---- writing -------------------------------------------------------------------------------------

    async def publish(self, events: Sequence[Event]) -> None:
        spans = [tracing.produced(event.trace, event.topic) for event in events]
        try:
            await self._send([(event.topic, str(event.key).encode(), event.encode(), _headers(span))
                              for event, span in zip(events, spans, strict=True)], "publish")
        except LabError as problem:
            for span in filter(None, spans):
                span.fail(type(problem).__name__, problem.detail[:300])
            raise
        finally:
            for span in filter(None, spans):
                span.end()

    async def bury(self, record: Record, reason: str, group: str) -> None:
        origin = f"{record.topic}/{record.partition}/{record.offset}"
        headers = [("reason", reason.encode()[:REASON_BYTES]), ("group", group.encode()), ("origin", origin.encode())]
        key = str(record.event.key).encode() if record.event else None
        raw = record.raw or (record.event.encode() if record.event else b"")
        if len(raw) > BURIED_BYTES:  # compressed it was small enough for the broker; the rest is where `origin` says
            headers.append(("cut_from_bytes", str(len(raw)).encode()))
        await self._send([(record.topic + events.DEAD, key, raw[:BURIED_BYTES], headers)], "bury the record")

    async def _send(self, items: Sequence[tuple[str, bytes | None, bytes, list[tuple[str, bytes]]]], doing: str) -> None:
        await self._guard.run(lambda: self._append(items, doing))

    async def _append(self, items: Sequence[tuple[str, bytes | None, bytes, list[tuple[str, bytes]]]], doing: str) -> None:
        producer = await self._sender()
        waiting: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(self._deadline_s):
                for topic, key, value, headers in items:
                    sent = await producer.send(self._settings.topic(topic), value=value, key=key, headers=headers)
                    waiting.append(sent)
                # `wait` and not `gather`: at the deadline the records stay on their way.
                await asyncio.wait(waiting)
            if any(sent.cancelled() for sent in waiting):  # by the client, which was stopped meanwhile: this task goes on
                await self._forget(producer)
                raise StoreUnavailable(f"Kafka's client was stopped in a {doing}; it may have been done.", definite=False)
            for sent in waiting:
                sent.result()
        except TimeoutError as error:
            raise link.mapped(error, f"{doing} within {self._deadline_s} s", definite=not waiting) from error
        except kafka.KafkaError as error:
            if isinstance(error, link.LOST_PRODUCER) or not error.retriable:
                await self._forget(producer)
            raise link.mapped(error, doing, definite=True if not waiting else None) from error

    async def _sender(self) -> aiokafka.AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._starting:
            if self._producer is None:
                producer = aiokafka.AIOKafkaProducer(
                    bootstrap_servers=self._brokers,
                    client_id=self._settings.instance,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=LINGER_MS,
                    max_batch_size=BATCH_BYTES,
                    request_timeout_ms=int(self._deadline_s * 1000),
                    metadata_max_age_ms=30_000,
                )
                await link.started(producer, "connect")
                self._producer = producer
            return self._producer

    async def _forget(self, producer: aiokafka.AIOKafkaProducer) -> None:
        # Its sequence is broken for good; the next publish starts a new one.
        if self._producer is producer:
            self._producer = None
        await link.ended(producer.stop(), 1.0)

    # ---- reading -------------------------------------------------------------------------------------

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        member = KafkaConsumer(self._settings, group, topics)
        await member.start()
        return member

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        ends = await self._ends(topics)
        control = await self._control()
        question = control.list_consumer_group_offsets(self._settings.topic(group), partitions=list(ends))
        committed = await link.asked(question, "read a group's offsets", self._deadline_s)
        left = dict.fromkeys(topics, 0)
        for place, (begin, end) in ends.items():
            offset = committed[place].offset if place in committed else -1
            left[_logical(self._settings, place.topic)] += end - max(offset, begin)
        return left

    async def _ends(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        looker, control = await self._look(), await self._control()
        question = control.describe_topics([self._settings.topic(name) for name in topics])
        described = await link.asked(question, "describe topics", self._deadline_s)
        places = [TopicPartition(each["topic"], part["partition"]) for each in described for part in each["partitions"]]
        begins = await link.asked(looker.beginning_offsets(places), "read offsets", self._deadline_s)
        ends = await link.asked(looker.end_offsets(places), "read offsets", self._deadline_s)
        return {place: (begins[place], ends[place]) for place in places}

    async def _look(self) -> aiokafka.AIOKafkaConsumer:
        async with self._starting:
            if self._looker is None:
                looker = aiokafka.AIOKafkaConsumer(bootstrap_servers=self._brokers, metadata_max_age_ms=30_000)
                await link.started(looker, "connect")
                self._looker = looker
            return self._looker

    async def _control(self) -> admin.AIOKafkaAdminClient:
        async with self._starting:
            if self._admin is None:
                control = admin.AIOKafkaAdminClient(bootstrap_servers=self._brokers, request_timeout_ms=30_000)
                await link.started(control, "connect")
                self._admin = control
            return self._admin

    async def _await_leaders(self, names: Sequence[str]) -> None:
        control = await self._control()
        until = time.monotonic() + 20.0
        while True:
            described = await link.asked(control.describe_topics(list(names)), "describe topics", 10.0)
            leaders = [part["leader"] for topic in described for part in topic["partitions"]]
            if leaders and min(leaders) >= 0 and all(topic["error_code"] == 0 for topic in described):
                return
            if time.monotonic() > until:
                raise StoreUnavailable("Kafka gave new topics no leaders within 20 s; look at the broker's log.", definite=False)
            await asyncio.sleep(0.05)


class KafkaConsumer(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
    """`Consumer`: one member of a group. Positions of partitions that were taken away are forgotten."""

    def __init__(self, settings: Settings, group: str, topics: Sequence[str]) -> None:
        self._settings = settings
        self._polled: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int] = {}
        self._topics = [settings.topic(name) for name in topics]
        self._client = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=list(settings.stores.kafka),
            client_id=settings.instance,
            group_id=settings.topic(group),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            max_poll_interval_ms=MAX_POLL_MS,
            metadata_max_age_ms=30_000,
        )

    async def start(self) -> None:
        """Join the group and wait for an assignment. Raises StoreUnavailable (definite)."""
        self._client.subscribe(self._topics, listener=self)
        await link.started(self._client, "join the group")

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        wait_ms = max(1, int(timeout_s * 1000))
        got = await link.asked(self._client.getmany(timeout_ms=wait_ms, max_records=max_records), "poll", timeout_s + link.JOIN_S)
        records: list[Record] = []
        for place, batch in got.items():
            self._polled[place] = self._next[place] = batch[-1].offset + 1
            topic = _logical(self._settings, place.topic)
            records.extend(read(topic, raw.partition, raw.offset, raw.key, raw.value or b"", raw.headers) for raw in batch)
        return records

    async def commit(self) -> None:
        mine = self._client.assignment()
        offsets = {place: offset for place, offset in self._polled.items() if place in mine}
        if not offsets:
            return
        await link.asked(self._client.commit(offsets), "commit", SESSION_MS / 1000)
        for place, offset in offsets.items():
            if self._polled.get(place) == offset:
                del self._polled[place]

    def behind(self) -> dict[str, int]:
        left = {_logical(self._settings, name): 0 for name in self._topics}
        for place, offset in self._next.items():
            left[_logical(self._settings, place.topic)] += max(0, (self._client.highwater(place) or offset) - offset)
        return left

    async def close(self) -> None:
        """Leave the group without committing, within 5 s. Safe to repeat. Raises CancelledError for its caller's cancel alone."""
        # aiokafka cancels its own tasks and awaits them. One that just leaves the group, as after a freeze longer than
        # max.poll.interval, lets that cancel out to us, and what it would have ended next is still there.
        client = self._client
        if not await link.ended(client.stop(), LEAVE_S) and client._coordinator is not None:
            for rest in (client._coordinator._stop_commit_offsets_refresh_task, client._fetcher.close, client._client.close):
                await link.ended(rest(), LEAVE_S)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for place in revoked:
            self._polled.pop(place, None)
            self._next.pop(place, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for place in assigned:
            self._polled.pop(place, None)


def topics() -> list[tuple[str, int]]:
    """Return (topic, partitions) of all topics, dead-letter topics included."""
    return [(name, PARTITIONS) for name in events.TOPICS] + [(name + events.DEAD, 1) for name in events.TOPICS]


def read(topic: str, partition: int, offset: int, key: bytes | None, value: bytes,
         headers: Sequence[tuple[str, bytes | None]] = ()) -> Record:
    """Return one record as consumers see it; `event` is None where the bytes are none. Its trace goes on from the publish.

    A header may be null in Kafka: that is no trace.
    """
    try:
        event = events.decode(topic, key, value)
        for name, parent in headers:
            if name == TRACEPARENT and parent:
                event = dataclasses.replace(event, trace=f"{event.trace.partition(' ')[0]} {parent.decode('latin-1')}")
        return Record(topic, partition, offset, event, raw=value)
    except WrongInput as problem:
        return Record(topic, partition, offset, None, problem=str(problem), raw=value)


def _headers(span: tracing.Recorded | None) -> list[tuple[str, bytes]]:
    return [(TRACEPARENT, span.traceparent.encode())] if span is not None else []


def _logical(settings: Settings, name: str) -> str:
    return name.removeprefix(settings.topic(""))
