"""Topics of events: Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from system.kernel.events import Event


@dataclass(frozen=True)
class Record:
    """One record as a consumer sees it. `event` is None and `problem` says why where the bytes are no event."""

    topic: str
    partition: int
    offset: int
    event: Event | None
    problem: str = ""
    raw: bytes = b""


class Consumer(Protocol):
    """A member of a consumer group; starts at the earliest record; nothing is committed but by `commit`."""

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records of the assigned partitions, in order within each partition; [] after `timeout_s`."""
        ...

    async def commit(self) -> None:
        """Commit the position after everything polled so far. Call after the effects (and dead letters) are done."""
        ...

    def missed(self) -> int:
        """Return how many records were removed before this member could read them, as its polls since the
        last call saw."""
        ...

    def behind(self) -> dict[str, int]:
        """Return the records that wait behind the last poll, per topic, as far as this member has been told of them."""
        ...

    async def close(self) -> None: ...


class EventLog(Protocol):
    """Topics of events. A publish returns after acks=all; the same event may be published more than once."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Append `events`; return after all are acknowledged. Order holds within one key."""
        ...

    async def bury(self, record: Record, reason: str, group: str) -> None:
        """Append a record that cannot be handled to `<topic>.dead`; return after the acknowledgement. A huge one is cut."""
        ...

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join `group` on `topics`."""
        ...

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Return records not yet committed by `group`, per topic."""
        ...
