"""A member of a Kafka consumer group: commits manually, and detects records removed before it read them.

The offsets of a partition are consecutive here (no compaction, no transactions), and a group resumes at its
committed offset. So if the offset of a record is above the next expected one, the records in between were
removed: the topic was purged, or the group was offline for longer than the retention.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import aiokafka
from aiokafka import TopicPartition

from system.kernel import events
from system.kernel.errors import WrongInput
from system.kernel.settings import Settings
from system.ports import Record
from system.stores.kafka import link

SESSION_MS = 3000  # must be at least the broker's group.min.session.timeout.ms, here 2000
HEARTBEAT_MS = 500
MAX_POLL_MS = 60_000  # a member that does not poll for this long leaves its group
LEAVE_S = 5.0  # longest wait for a consumer to leave its group
TRACEPARENT = "traceparent"  # header of a record whose request is sampled


class KafkaConsumer(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
    """`Consumer`: one member of a group. It discards its positions in revoked partitions."""

    def __init__(self, settings: Settings, group: str, topics: Sequence[str]) -> None:
        self._settings = settings
        self._polled: dict[TopicPartition, int] = {}
        self._next: dict[TopicPartition, int] = {}
        self._missed = 0
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
        await link.start_client(self._client, "join the group")

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        wait_ms = max(1, int(timeout_s * 1000))
        request = self._client.getmany(timeout_ms=wait_ms, max_records=max_records)
        batches = await link.call(request, "poll", timeout_s + link.JOIN_S)
        records: list[Record] = []
        for partition, batch in batches.items():
            self._missed += max(0, batch[0].offset - await self._expected(partition))
            self._polled[partition] = self._next[partition] = batch[-1].offset + 1
            topic = logical(self._settings, partition.topic)
            records.extend(read(topic, raw.partition, raw.offset, raw.key, raw.value or b"", raw.headers)
                           for raw in batch)
        return records

    async def _expected(self, partition: TopicPartition) -> int:
        """Return the next expected offset; 0 for a group without a commit, which reads from the start."""
        if partition in self._next:
            return self._next[partition]
        return await link.call(self._client.committed(partition), "read the committed offset", link.JOIN_S) or 0

    def missed(self) -> int:
        count, self._missed = self._missed, 0
        return count

    async def commit(self) -> None:
        assigned = self._client.assignment()
        offsets = {partition: offset for partition, offset in self._polled.items() if partition in assigned}
        if not offsets:
            return
        await link.call(self._client.commit(offsets), "commit", SESSION_MS / 1000)
        for partition, offset in offsets.items():
            if self._polled.get(partition) == offset:
                del self._polled[partition]

    def behind(self) -> dict[str, int]:
        lag = {logical(self._settings, name): 0 for name in self._topics}
        for partition, offset in self._next.items():
            end = self._client.highwater(partition) or offset
            lag[logical(self._settings, partition.topic)] += max(0, end - offset)
        return lag

    async def close(self) -> None:
        """Leave the group without committing, within 5 s. Safe to repeat.

        Raises CancelledError only where the caller is cancelled.
        """
        # aiokafka cancels its own tasks and awaits them. If the member is already leaving the group, for
        # example after a freeze longer than max.poll.interval, `stop` raises that cancellation here, and what
        # it would have closed next is still open.
        client = self._client
        if not await link.await_close(client.stop(), LEAVE_S) and client._coordinator is not None:
            coordinator = client._coordinator
            stop_commits = coordinator._stop_commit_offsets_refresh_task
            for close in (stop_commits, client._fetcher.close, client._client.close):
                await link.await_close(close(), LEAVE_S)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for partition in revoked:
            self._polled.pop(partition, None)
            self._next.pop(partition, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for partition in assigned:
            self._polled.pop(partition, None)


def read(topic: str, partition: int, offset: int, key: bytes | None, value: bytes,
         headers: Sequence[tuple[str, bytes | None]] = ()) -> Record:
    """Return one record for consumers; its `event` is None if the bytes are not an event.

    The trace of the event continues the span of its publish, from the header TRACEPARENT. A header may be
    null in Kafka; that means no trace.
    """
    try:
        event = events.decode(topic, key, value)
        for name, parent in headers:
            if name == TRACEPARENT and parent:
                request = event.trace.partition(" ")[0]
                event = dataclasses.replace(event, trace=f"{request} {parent.decode('latin-1')}")
        return Record(topic, partition, offset, event, raw=value)
    except WrongInput as problem:
        return Record(topic, partition, offset, None, problem=str(problem), raw=value)


def logical(settings: Settings, name: str) -> str:
    return name.removeprefix(settings.topic(""))
