"""The event log on Kafka: an idempotent producer, and consumer groups that commit manually.

Topics: `kafka/topics.md`.

These defaults of the client are overridden: auto-commit (a crash would skip records), starting a new group at
the newest record (it would miss earlier records), and removing a dead member from its group only after 10 s.

An offset is committed only for a partition that is still assigned to this member: after a rebalance, records
that were polled but not committed are delivered again, to the new owner of the partition.
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

PARTITIONS = 4  # per topic; also the maximum number of workers of a group
LINGER_MS = 1  # events published within this time share a request
BATCH_BYTES = 256 * 1024  # per partition; `publish` waits while the batch is full
# Bytes that a dead letter keeps of the record: with its headers it must fit into the broker's record limit.
DEAD_LETTER_BYTES = 512 * 1024
REASON_BYTES = 4096


class KafkaLog:
    """`EventLog` on the topics and groups of one namespace."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._brokers = list(settings.stores.kafka)
        self._deadline_s = settings.policies.timeout_s("kafka")
        self._producer: aiokafka.AIOKafkaProducer | None = None
        self._admin: admin.AIOKafkaAdminClient | None = None
        self._offset_reader: aiokafka.AIOKafkaConsumer | None = None
        self._starting = asyncio.Lock()
        self._guard = Guard("kafka", settings.policies)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Connect a producer; `prepare` creates the topics.

        Raises StoreUnavailable (definite) if no broker responds.
        """
        log = cls(settings)
        await log._open_producer()
        return log

    async def close(self) -> None:
        """Send pending events, for at most 2 s, and close. Safe to repeat.

        Callers close the consumers that they opened.
        """
        clients = (self._producer, self._offset_reader, self._admin)
        self._producer, self._admin, self._offset_reader = None, None, None
        for client in clients:
            if client is not None:
                await link.await_close(client.close() if isinstance(client, admin.AIOKafkaAdminClient) else client.stop(), 2.0)

    async def ready(self) -> None:
        """Check that the brokers respond and all topics exist. Raises StoreUnavailable if not."""
        control = await self._admin_client()
        existing = set(await link.call(control.list_topics(), "answer", self._deadline_s))
        missing = sorted({self._settings.topic(name) for name, _ in topics()} - existing)
        if missing:
            raise StoreUnavailable(f"Kafka lacks the topics {', '.join(missing)}; prepare the log first.", definite=True)

    async def prepare(self) -> None:
        """Create missing topics and dead-letter topics; return when all have leaders. Safe to repeat."""
        control = await self._admin_client()
        replicas = min(3, len(self._brokers))
        settings = {"min.insync.replicas": "2"} if replicas == 3 else {}
        wanted = [admin.NewTopic(self._settings.topic(name), count, replicas, topic_configs=settings)
                  for name, count in topics()]
        reply = await link.call(control.create_topics(wanted, timeout_ms=20_000), "create topics", 30.0)
        for name, code, *_ in reply.topic_errors:
            if code not in (0, kafka.TopicAlreadyExistsError.errno):
                raise link.mapped(kafka.for_code(code)(name), f"create the topic {name}")
        await self._await_leaders([topic.name for topic in wanted])

    async def clear(self) -> None:
        """Delete all records of this namespace, and move its groups to the ends of their topics.

        Groups that have members are not moved: they detect the removed records as missed (`Consumer.missed`).
        So stop the members first.
        """
        await self.purge()
        await self._skip_to_ends()

    async def purge(self) -> None:
        """Delete all records of the topics of this namespace.

        Offsets are not reset; a group that had not read all records has missed some.
        """
        ends = await self._ends([name for name, _ in topics()])
        control = await self._admin_client()
        deletions = {partition: admin.RecordsToDelete(before_offset=end) for partition, (_, end) in ends.items() if end > 0}
        if deletions:
            await link.call(control.delete_records(deletions), "delete records", 30.0)

    async def _skip_to_ends(self) -> None:
        """For each group of this namespace without members, commit the end offsets of its topics."""
        control = await self._admin_client()
        listed = await link.call(control.list_consumer_groups(), "list groups", self._deadline_s)
        relays = [name for name, *_ in listed if name.startswith(self._settings.topic("relay-"))]
        read_by = {self._settings.topic(name): topics for name, topics in events.GROUPS.items()}
        ends = {partition: end for partition, (_, end) in (await self._ends(events.TOPICS)).items()}
        for group, names in {**read_by, **dict.fromkeys(relays, events.RELAYED)}.items():
            topics = {self._settings.topic(name) for name in names}
            await self._commit(group, {partition: end for partition, end in ends.items() if partition.topic in topics})

    async def _commit(self, group: str, ends: dict[TopicPartition, int]) -> None:
        client = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=self._brokers, group_id=group, enable_auto_commit=False)
        client.assign(list(ends))
        await link.start_client(client, "connect")
        try:
            await link.call(client.commit(ends), "commit", self._deadline_s)
        except StoreUnavailable as problem:
            if not isinstance(problem.__cause__, kafka.UnknownMemberIdError | kafka.CommitFailedError):
                raise  # these two mean that the group has members, which commit for themselves
        finally:
            await link.await_close(client.stop(), 2.0)

    async def records(self) -> dict[str, int]:
        """Return topic -> number of records that a new group would read, including dead-letter topics."""
        counts: dict[str, int] = {}
        for partition, (begin, end) in (await self._ends([name for name, _ in topics()])).items():
            topic = logical(self._settings, partition.topic)
            counts[topic] = counts.get(topic, 0) + end - begin
        return counts

    async def drop(self) -> None:
        """Delete the topics of this namespace."""
        control = await self._admin_client()
        await link.call(control.delete_topics([self._settings.topic(name) for name, _ in topics()]), "delete topics", 30.0)

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

    async def dead_letter(self, record: Record, reason: str, group: str) -> None:
        origin = f"{record.topic}/{record.partition}/{record.offset}"
        headers = [("reason", reason.encode()[:REASON_BYTES]), ("group", group.encode()), ("origin", origin.encode())]
        key = str(record.event.key).encode() if record.event else None
        raw = record.raw or (record.event.encode() if record.event else b"")
        # A compressed record may be larger than the limit once it is decompressed; `origin` names the full
        # record.
        if len(raw) > DEAD_LETTER_BYTES:
            headers.append(("cut_from_bytes", str(len(raw)).encode()))
        await self._send([(record.topic + events.DEAD, key, raw[:DEAD_LETTER_BYTES], headers)], "dead_letter the record")

    async def _send(self, items: Sequence[tuple[str, bytes | None, bytes, list[tuple[str, bytes]]]], doing: str) -> None:
        await self._guard.run(lambda: self._append(items, doing))

    async def _append(self, items: Sequence[tuple[str, bytes | None, bytes, list[tuple[str, bytes]]]], doing: str) -> None:
        producer = await self._open_producer()
        waiting: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(self._deadline_s):
                for topic, key, value, headers in items:
                    sent = await producer.send(self._settings.topic(topic), value=value, key=key, headers=headers)
                    waiting.append(sent)
                # `wait` and not `gather`: records in flight at the deadline are not cancelled.
                await asyncio.wait(waiting)
            # A cancelled future means that another task stopped the client; this task was not cancelled.
            if any(sent.cancelled() for sent in waiting):
                await self._discard(producer)
                raise StoreUnavailable(f"Kafka's client was stopped in a {doing}; it may have been done.", definite=False)
            for sent in waiting:
                sent.result()
        except TimeoutError as error:
            raise link.mapped(error, f"{doing} within {self._deadline_s} s", definite=not waiting) from error
        except kafka.KafkaError as error:
            if isinstance(error, link.LOST_PRODUCER) or not error.retriable:
                await self._discard(producer)
            raise link.mapped(error, doing, definite=True if not waiting else None) from error

    async def _open_producer(self) -> aiokafka.AIOKafkaProducer:
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
                await link.start_client(producer, "connect")
                self._producer = producer
            return self._producer

    async def _discard(self, producer: aiokafka.AIOKafkaProducer) -> None:
        # The idempotent sequence of this producer is broken for good; the next publish starts a new producer.
        if self._producer is producer:
            self._producer = None
        await link.await_close(producer.stop(), 1.0)

    # ---- reading -------------------------------------------------------------------------------------

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        member = KafkaConsumer(self._settings, group, topics)
        await member.start()
        return member

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        ends = await self._ends(topics)
        control = await self._admin_client()
        request = control.list_consumer_group_offsets(self._settings.topic(group), partitions=list(ends))
        committed = await link.call(request, "read a group's offsets", self._deadline_s)
        lag = dict.fromkeys(topics, 0)
        for partition, (begin, end) in ends.items():
            offset = committed[partition].offset if partition in committed else -1
            lag[logical(self._settings, partition.topic)] += end - max(offset, begin)
        return lag

    async def _ends(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """Return (oldest offset, end offset) of every partition of `topics`."""
        reader, control = await self._offset_client(), await self._admin_client()
        request = control.describe_topics([self._settings.topic(name) for name in topics])
        described = await link.call(request, "describe topics", self._deadline_s)
        partitions = [TopicPartition(topic["topic"], part["partition"]) for topic in described for part in topic["partitions"]]
        begins = await link.call(reader.beginning_offsets(partitions), "read offsets", self._deadline_s)
        ends = await link.call(reader.end_offsets(partitions), "read offsets", self._deadline_s)
        return {partition: (begins[partition], ends[partition]) for partition in partitions}

    async def _offset_client(self) -> aiokafka.AIOKafkaConsumer:
        async with self._starting:
            if self._offset_reader is None:
                reader = aiokafka.AIOKafkaConsumer(bootstrap_servers=self._brokers, metadata_max_age_ms=30_000)
                await link.start_client(reader, "connect")
                self._offset_reader = reader
            return self._offset_reader

    async def _admin_client(self) -> admin.AIOKafkaAdminClient:
        async with self._starting:
            if self._admin is None:
                control = admin.AIOKafkaAdminClient(bootstrap_servers=self._brokers, request_timeout_ms=30_000)
                await link.start_client(control, "connect")
                self._admin = control
            return self._admin

    async def _await_leaders(self, names: Sequence[str]) -> None:
        control = await self._admin_client()
        until = time.monotonic() + 20.0
        while True:
            described = await link.call(control.describe_topics(list(names)), "describe topics", 10.0)
            leaders = [part["leader"] for topic in described for part in topic["partitions"]]
            if leaders and min(leaders) >= 0 and all(topic["error_code"] == 0 for topic in described):
                return
            if time.monotonic() > until:
                raise StoreUnavailable("New topics of Kafka have no leaders after 20 s; see the broker's log.", definite=False)
            await asyncio.sleep(0.05)


def topics() -> list[tuple[str, int]]:
    """Return (topic, number of partitions) of all topics, including dead-letter topics."""
    return [(name, PARTITIONS) for name in events.TOPICS] + [(name + events.DEAD, 1) for name in events.TOPICS]


def _headers(span: tracing.Recorded | None) -> list[tuple[str, bytes]]:
    return [(TRACEPARENT, span.traceparent.encode())] if span is not None else []
