"""Tweet ids: 64 bits that sort by time, unique without coordination per id.

    41 bits milliseconds since EPOCH_MS | 10 bits worker number | 12 bits sequence

A worker number is leased (`system.ports.LeaseStore`). The lease has a *ceiling*: no id may carry a
later time, and the next holder of the number starts above it. So two processes with the same
number (one of them paused past its lease) can never issue the same id. When the sequence of a
millisecond is used up, or the wall clock steps back, the generator reports how long to wait; it never
exits and never collides.
"""

from __future__ import annotations

from dataclasses import dataclass

from system.kernel import clock as clocks
from system.kernel.errors import Overloaded, WrongInput

EPOCH_MS = 1_288_834_974_657  # 2010-11-04T01:42:54.657Z, the epoch of Twitter's own Snowflake (twitter-archive/snowflake)
WORKER_BITS = 10
SEQUENCE_BITS = 12
MAX_WORKER = (1 << WORKER_BITS) - 1
MAX_SEQUENCE = (1 << SEQUENCE_BITS) - 1
MAX_ID = (1 << 63) - 1
TIME_SHIFT = WORKER_BITS + SEQUENCE_BITS


def compose(wall_ms: int, worker: int, sequence: int) -> int:
    """Return the id of `sequence` at `wall_ms` (milliseconds since 1970) by `worker`."""
    return (wall_ms - EPOCH_MS) << TIME_SHIFT | worker << SEQUENCE_BITS | sequence


def ms_of(tweet_id: int) -> int:
    """Return the wall time in milliseconds since 1970 that `tweet_id` carries."""
    return (tweet_id >> TIME_SHIFT) + EPOCH_MS


def worker_of(tweet_id: int) -> int:
    """Return the worker number that issued `tweet_id`."""
    return tweet_id >> SEQUENCE_BITS & MAX_WORKER


def floor_id(wall_ms: int) -> int:
    """Return the smallest id with the time `wall_ms`; smaller ids are older."""
    return (wall_ms - EPOCH_MS) << TIME_SHIFT


def parse(text: str, name: str = "id") -> int:
    """Return the id in a decimal string. Raises WrongInput unless it is a whole number of 1 to 19 digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) > MAX_ID:
        raise WrongInput(f"`{name}` is {text[:40]!r}; it must be a whole number from 0 to {MAX_ID}, as decimal digits.")
    return int(text)


@dataclass(frozen=True)
class Lease:
    """A worker number granted for a limited time.

    `worker`: 0 to 1023. `floor_ms`: ids must carry a wall time above this one (the last holder's
    ceiling). `ceiling_ms`: no id may carry a later wall time. `deadline_ns`: monotonic time from which
    the lease is expired.
    """

    worker: int
    floor_ms: int
    ceiling_ms: int
    deadline_ns: int


MARGIN_NS = 1_000_000_000  # an id is refused when less than 1 s of lease remains (correctness rule 15)


class Generator:
    """Issues ids under a lease. Not shared between threads."""

    def __init__(self, lease: Lease, clock: clocks.Clock) -> None:
        self.lease = lease
        self._clock = clock
        self._last_ms = lease.floor_ms
        self._sequence = MAX_SEQUENCE

    def renew(self, lease: Lease) -> None:
        """Continue under a renewed lease of the same number, or start above the floor of a new number."""
        if lease.worker != self.lease.worker:
            self._last_ms, self._sequence = lease.floor_ms, MAX_SEQUENCE
        self.lease = lease

    def try_next(self) -> int | None:
        """Return the next id, or None if the caller must wait (`wait_s` says how long).

        Raises Overloaded (definite) when the lease has less than 1 s left or its ceiling is reached.
        """
        lease = self.lease
        if self._clock.monotonic_ns() > lease.deadline_ns - MARGIN_NS:
            raise Overloaded(f"Worker number {lease.worker} has less than 1 s of lease left; retry after it is renewed.",
                             retry_after_s=1.0)
        now_ms = self._clock.wall_ms()
        if now_ms > lease.ceiling_ms:
            raise Overloaded(f"The clock is past the ceiling of worker number {lease.worker}; retry after its lease is renewed.",
                             retry_after_s=1.0)
        if now_ms < self._last_ms or (now_ms == self._last_ms and self._sequence == MAX_SEQUENCE):
            return None
        self._sequence = self._sequence + 1 if now_ms == self._last_ms else 0
        self._last_ms = now_ms
        return compose(now_ms, lease.worker, self._sequence)

    def wait_s(self) -> float:
        """Return the seconds until `try_next` may return an id: at least 0.001."""
        return max(1, self._last_ms - self._clock.wall_ms()) / 1e3

    async def next(self, deadline_ns: int) -> int:
        """Return the next id; wait for the clock if necessary, until monotonic `deadline_ns`.

        Raises Overloaded (definite) if the wait would exceed the deadline.
        """
        while (tweet_id := self.try_next()) is None:
            wait_s = self.wait_s()
            if self._clock.monotonic_ns() + wait_s * 1e9 > deadline_ns:
                raise Overloaded(f"No id before the deadline: the clock must first reach its last value, {wait_s:.3f} s ahead.",
                                 retry_after_s=wait_s)
            await self._clock.sleep(wait_s)
        return tweet_id
