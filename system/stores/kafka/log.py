"""The event log on Kafka: an idempotent producer, groups that commit by hand. Topics: `kafka/topics.md`.

What the client would do by default and must not: commit by itself (a crash would skip records), start a new group at the
newest record (it would miss what was published before), keep a dead member for 10 s. A position is committed only for a
partition that this member still has: what was polled before a rebalance comes again, to whoever has it now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Self

import aiokafka
from aiokafka import TopicPartition, admin
from aiokafka import errors as kafka

from system.kernel import events
from system.kernel.errors import LabError, StoreUnavailable
from system.kernel.events import Event
from system.kernel.resilience.guard import Guard
from system.kernel.settings import Settings
from system.kernel.telemetry import tracing
from system.ports import Consumer, Record
from system.stores.kafka import link
from system.stores.kafka.consumer import TRACEPARENT, KafkaConsumer, logical

PARTITIONS = 4  # of a topic; a group can use as many workers
LINGER_MS = 1  # events of one moment share a request
BATCH_BYTES = 256 * 1024  # of one partition; a full batch makes `publish` wait
BURIED_BYTES = 512 * 1024  # kept of a record that cannot be handled: with its headers a dead letter must fit where it fitted
REASON_BYTES = 4096


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
        """Delete all records of this namespace's topics and let its groups go on at their ends, as if nothing
        had been there.

        A group with members notices that records are gone (`Consumer.missed`); so stop them first.
        """
        await self.purge()
        await self._settle()

    async def purge(self) -> None:
        """Delete all records of this namespace's topics. Offsets go on; a group that had not read them all
        has missed some."""
        ends = await self._ends([name for name, _ in topics()])
        control = await self._control()
        gone = {place: admin.RecordsToDelete(before_offset=end) for place, (_, end) in ends.items() if end > 0}
        if gone:
            await link.asked(control.delete_records(gone), "delete records", 30.0)

    async def _settle(self) -> None:
        """Commit the ends of their topics for all groups of this namespace that have no member."""
        control = await self._control()
        listed = await link.asked(control.list_consumer_groups(), "list groups", self._deadline_s)
        relays = [name for name, *_ in listed if name.startswith(self._settings.topic("relay-"))]
        read_by = {self._settings.topic(name): topics for name, topics in events.GROUPS.items()}
        ends = {place: end for place, (_, end) in (await self._ends(events.TOPICS)).items()}
        for group, names in {**read_by, **dict.fromkeys(relays, events.RELAYED)}.items():
            topics = {self._settings.topic(name) for name in names}
            await self._commit(group, {place: end for place, end in ends.items() if place.topic in topics})

    async def _commit(self, group: str, ends: dict[TopicPartition, int]) -> None:
        client = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._brokers, group_id=group, enable_auto_commit=False)
        client.assign(list(ends))
        await link.started(client, "connect")
        try:
            await link.asked(client.commit(ends), "commit", self._deadline_s)
        except StoreUnavailable as problem:
            if not isinstance(problem.__cause__, kafka.UnknownMemberIdError | kafka.CommitFailedError):
                raise  # else it has members, which commit for themselves
        finally:
            await link.ended(client.stop(), 2.0)

    async def records(self) -> dict[str, int]:
        """Return how many records a new group would read, by topic, dead-letter topics included."""
        left: dict[str, int] = {}
        for place, (begin, end) in (await self._ends([name for name, _ in topics()])).items():
            topic = logical(self._settings, place.topic)
            left[topic] = left.get(topic, 0) + end - begin
        return left

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
            left[logical(self._settings, place.topic)] += end - max(offset, begin)
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


def topics() -> list[tuple[str, int]]:
    """Return (topic, partitions) of all topics, dead-letter topics included."""
    return [(name, PARTITIONS) for name in events.TOPICS] + [(name + events.DEAD, 1) for name in events.TOPICS]


def _headers(span: tracing.Recorded | None) -> list[tuple[str, bytes]]:
    return [(TRACEPARENT, span.traceparent.encode())] if span is not None else []
