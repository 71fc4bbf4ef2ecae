"""The event log in memory: topics, partitions and consumer groups that rebalance, in one process."""

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
Place = tuple[str, int]  # topic, partition


class MemoryLog(Memory):
    """`EventLog` in lists. Events go through their bytes, as on the wire."""

    def __init__(self) -> None:
        self.growth = asyncio.Event()
        self._forget()

    def _forget(self) -> None:
        self.records: dict[Place, list[Record]] = {}
        self.begins: dict[Place, int] = {}  # offset of the oldest record that was not purged
        self.groups: dict[str, _Group] = {}

    async def purge(self) -> None:
        """Remove all records; offsets go on."""
        self.begins = {place: len(batch) for place, batch in self.records.items()}

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

    async def bury(self, record: Record, reason: str, group: str) -> None:
        raw = record.raw or (record.event.encode() if record.event else b"")
        self.put(record.topic + events.DEAD, str(record.event.key).encode() if record.event else None, raw)

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        team = self.groups.setdefault(group, _Group())
        member = MemoryConsumer(self, team, topics)
        team.members.append(member)
        team.rebalance()
        return member

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        committed = self.groups[group].committed if group in self.groups else {}
        left = dict.fromkeys(topics, 0)
        for place, batch in self.records.items():
            if place[0] in left:
                left[place[0]] += len(batch) - max(committed.get(place, 0), self.begins.get(place, 0))
        return left


class _Group:
    def __init__(self) -> None:
        self.members: list[MemoryConsumer] = []
        self.committed: dict[Place, int] = {}

    def rebalance(self) -> None:
        topics = sorted({topic for member in self.members for topic in member.topics})
        for member in self.members:
            member.positions = {}
        for topic in topics:
            able = [member for member in self.members if topic in member.topics]
            for partition in range(PARTITIONS):
                place = (topic, partition)
                able[partition % len(able)].positions[place] = self.committed.get(place, 0)


class MemoryConsumer:
    """`Consumer`: after a rebalance it goes on from what the group committed, like the real one."""

    def __init__(self, log: MemoryLog, group: _Group, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        self.positions: dict[Place, int] = {}
        self._missed = 0
        self._log = log
        self._group = group

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        end_s = time.monotonic() + timeout_s
        while True:
            growth = self._log.growth  # taken before the look, so that what comes after it is not missed
            got = self._take(max_records)
            left_s = end_s - time.monotonic()
            if got or left_s <= 0:
                return got
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(growth.wait(), left_s)

    def _take(self, max_records: int) -> list[Record]:
        got: list[Record] = []
        for place, position in self.positions.items():
            first = max(position, self._log.begins.get(place, 0))
            batch = self._log.records.get(place, [])[first : first + max_records - len(got)]
            if batch:
                self._missed += first - position
                self.positions[place] = first + len(batch)
                got.extend(batch)
        return got

    def missed(self) -> int:
        count, self._missed = self._missed, 0
        return count

    async def commit(self) -> None:
        self._group.committed.update(self.positions)

    def behind(self) -> dict[str, int]:
        left = dict.fromkeys(self.topics, 0)
        for place, position in self.positions.items():
            left[place[0]] += len(self._log.records.get(place, [])) - position
        return left

    async def close(self) -> None:
        """Leave the group without committing. Safe to repeat."""
        if self in self._group.members:
            self._group.members.remove(self)
            self._group.rebalance()
            self.positions = {}


def _read(topic: str, partition: int, offset: int, key: bytes | None, value: bytes) -> Record:
    bare = Record(topic, partition, offset, None, raw=value)
    try:
        return replace(bare, event=events.decode(topic, key, value))
    except WrongInput as problem:
        return replace(bare, problem=str(problem))
