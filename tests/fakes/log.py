"""In-memory event log: topics, partitions and consumer groups that rebalance, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace

from system.kernel import events
from system.kernel.errors import WrongInput
from system.kernel.events import Event
from system.ports import Consumer, Record
from tests.fakes.base import Memory

PARTITIONS = 4
Partition = tuple[str, int]  # topic, number


class MemoryLog(Memory):
    """`EventLog` in lists. Events are encoded and decoded, as on the wire."""

    def __init__(self) -> None:
        self.growth = asyncio.Event()
        self._reset()

    def _reset(self) -> None:
        self.records: dict[Partition, list[Record]] = {}
        self.begins: dict[Partition, int] = {}  # offset of the oldest record that is not purged
        self.groups: dict[str, _Group] = {}

    async def purge(self) -> None:
        """Remove all records; offsets continue."""
        self.begins = {partition: len(batch) for partition, batch in self.records.items()}

    async def publish(self, events: Sequence[Event]) -> None:
        for event in events:
            self.put(event.topic, str(event.key).encode(), event.encode())

    def put(self, topic: str, key: bytes | None, value: bytes) -> None:
        """Append raw bytes, for example a poison message."""
        count = 1 if topic.endswith(events.DEAD) else PARTITIONS
        partition = zlib.crc32(key or b"") % count
        batch = self.records.setdefault((topic, partition), [])
        batch.append(_read(topic, partition, len(batch), key, value))
        self.growth.set()
        self.growth = asyncio.Event()

    async def dead_letter(self, record: Record, reason: str, group: str) -> None:
        raw = record.raw or (record.event.encode() if record.event else b"")
        self.put(record.topic + events.DEAD, str(record.event.key).encode() if record.event else None, raw)

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        consumers = self.groups.setdefault(group, _Group())
        member = MemoryConsumer(self, consumers, topics)
        consumers.members.append(member)
        consumers.rebalance()
        return member

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        committed = self.groups[group].committed if group in self.groups else {}
        lag = dict.fromkeys(topics, 0)
        for partition, batch in self.records.items():
            if partition[0] in lag:
                lag[partition[0]] += len(batch) - max(committed.get(partition, 0), self.begins.get(partition, 0))
        return lag


class _Group:
    def __init__(self) -> None:
        self.members: list[MemoryConsumer] = []
        self.committed: dict[Partition, int] = {}

    def rebalance(self) -> None:
        topics = sorted({topic for member in self.members for topic in member.topics})
        for member in self.members:
            member.positions = {}
        for topic in topics:
            subscribed = [member for member in self.members if topic in member.topics]
            for number in range(PARTITIONS):
                partition = (topic, number)
                subscribed[number % len(subscribed)].positions[partition] = self.committed.get(partition, 0)


class MemoryConsumer:
    """`Consumer`: after a rebalance it continues from the group's committed offsets, as on Kafka."""

    def __init__(self, log: MemoryLog, group: _Group, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        self.positions: dict[Partition, int] = {}
        self._missed = 0
        self._log = log
        self._group = group

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        end_s = time.monotonic() + timeout_s
        while True:
            growth = self._log.growth  # taken before the read, so that no later record is missed
            records = self._take(max_records)
            left_s = end_s - time.monotonic()
            if records or left_s <= 0:
                return records
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(growth.wait(), left_s)

    def _take(self, max_records: int) -> list[Record]:
        records: list[Record] = []
        for partition, position in self.positions.items():
            first = max(position, self._log.begins.get(partition, 0))
            batch = self._log.records.get(partition, [])[first : first + max_records - len(records)]
            if batch:
                self._missed += first - position
                self.positions[partition] = first + len(batch)
                records.extend(batch)
        return records

    def missed(self) -> int:
        count, self._missed = self._missed, 0
        return count

    async def commit(self) -> None:
        self._group.committed.update(self.positions)

    def behind(self) -> dict[str, int]:
        lag = dict.fromkeys(self.topics, 0)
        for partition, position in self.positions.items():
            lag[partition[0]] += len(self._log.records.get(partition, [])) - position
        return lag

    async def close(self) -> None:
        """Leave the group without committing. Safe to repeat."""
        if self in self._group.members:
            self._group.members.remove(self)
            self._group.rebalance()
            self.positions = {}


def _read(topic: str, partition: int, offset: int, key: bytes | None, value: bytes) -> Record:
    undecoded = Record(topic, partition, offset, None, raw=value)
    try:
        return replace(undecoded, event=events.decode(topic, key, value))
    except WrongInput as problem:
        return replace(undecoded, problem=str(problem))
