"""Event topics: Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from system.kernel.events import Event


@dataclass(frozen=True)
class Record:
    """One record as a consumer sees it.

    If the bytes are not an event, `event` is None and `problem` says why.
    """

    topic: str
    partition: int
    offset: int
    event: Event | None
    problem: str = ""
    raw: bytes = b""


class Consumer(Protocol):
    """A member of a consumer group; starts at the earliest record; only `commit` commits offsets."""

    async def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Return the next records of the assigned partitions, in order within each partition; [] after `timeout_s`."""
        ...

    async def commit(self) -> None:
        """Commit the position after everything polled so far.

        Call after all effects (and dead letters) are durable.
        """
        ...

    def missed(self) -> int:
        """Return how many records were removed unread, as observed by polls since the last call."""
        ...

    def behind(self) -> dict[str, int]:
        """Return the number of records behind the last poll, per topic, as far as known to this member."""
        ...

    async def close(self) -> None: ...


class EventLog(Protocol):
    """Topics of events. A publish returns after acks=all; the same event may be published more than once."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Append `events`; return after all are acknowledged. Ordered within one key."""
        ...

    async def dead_letter(self, record: Record, reason: str, group: str) -> None:
        """Append a record that cannot be handled to `<topic>.dead`; return after the acknowledgement.

        A huge one is truncated.
        """
        ...

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join `group` on `topics`."""
        ...

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Return the number of records not yet committed by `group`, per topic."""
        ...
