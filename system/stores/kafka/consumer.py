"""A member of a consumer group on Kafka: commits by hand, and notices records that are gone before it read
them.

Offsets of a partition are consecutive here (no compaction, no transactions), and a group goes on where it
committed. So a record whose offset lies above the next one expected says that those between were removed: the
topic was purged, or the group was away for longer than the retention.
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

SESSION_MS = 3000  # the broker must allow it: group.min.session.timeout.ms=2000
HEARTBEAT_MS = 500
MAX_POLL_MS = 60_000  # a member that does not ask for records for so long leaves its group
LEAVE_S = 5.0  # longest wait for a consumer that leaves its group
TRACEPARENT = "traceparent"  # header of a record whose request is sampled


class KafkaConsumer(aiokafka.ConsumerRebalanceListener):  # type: ignore[misc]
    """`Consumer`: one member of a group. Positions of partitions that were taken away are forgotten."""

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
        await link.started(self._client, "join the group")

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        wait_ms = max(1, int(timeout_s * 1000))
        asking = self._client.getmany(timeout_ms=wait_ms, max_records=max_records)
        got = await link.asked(asking, "poll", timeout_s + link.JOIN_S)
        records: list[Record] = []
        for place, batch in got.items():
            self._missed += max(0, batch[0].offset - await self._expected(place))
            self._polled[place] = self._next[place] = batch[-1].offset + 1
            topic = logical(self._settings, place.topic)
            records.extend(read(topic, raw.partition, raw.offset, raw.key, raw.value or b"", raw.headers)
                           for raw in batch)
        return records

    async def _expected(self, place: TopicPartition) -> int:
        """Return the offset at which this member goes on; 0 for a group that never committed one: it was to
        read all."""
        if place in self._next:
            return self._next[place]
        return await link.asked(self._client.committed(place), "read the committed offset", link.JOIN_S) or 0

    def missed(self) -> int:
        count, self._missed = self._missed, 0
        return count

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
        left = {logical(self._settings, name): 0 for name in self._topics}
        for place, offset in self._next.items():
            end = self._client.highwater(place) or offset
            left[logical(self._settings, place.topic)] += max(0, end - offset)
        return left

    async def close(self) -> None:
        """Leave the group without committing, within 5 s. Safe to repeat. Raises CancelledError for its
        caller's cancel alone.
        """
        # aiokafka cancels its own tasks and awaits them. One that just leaves the group, as after a freeze longer than
        # max.poll.interval, lets that cancel out to us, and what it would have ended next is still there.
        client = self._client
        if not await link.ended(client.stop(), LEAVE_S) and client._coordinator is not None:
            coordinator = client._coordinator
            committing = coordinator._stop_commit_offsets_refresh_task
            for rest in (committing, client._fetcher.close, client._client.close):
                await link.ended(rest(), LEAVE_S)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        for place in revoked:
            self._polled.pop(place, None)
            self._next.pop(place, None)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for place in assigned:
            self._polled.pop(place, None)


def read(topic: str, partition: int, offset: int, key: bytes | None, value: bytes,
         headers: Sequence[tuple[str, bytes | None]] = ()) -> Record:
    """Return one record as consumers see it; `event` is None where the bytes are none. Its trace goes on from
    the publish.

    A header may be null in Kafka: that is no trace.
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
