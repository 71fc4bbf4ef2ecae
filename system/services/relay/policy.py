"""Which outbox partitions to look at, and which rows to publish. Decides; reads no clock, no store.

Rows lie in (shard, 10 s) partitions by the wall time of the change. The tweets service publishes an event right
after its row; the relay publishes what a crash left behind. It listens to the topics and so knows
what was published; a row that nobody announced for `GRACE_MS` is published by the relay. A second copy does no harm.

| a bucket is looked at | to find |
|---|---|
| at every tick until it has settled | what a crash left behind |
| 30 s and 120 s later, once each | rows that came late: a batch that timed out and was carried out after all |
| after an outage of the relay, from the mark | all of that |

The *mark* of a shard is the bucket below which every row is known to be published.
"""

from __future__ import annotations

from collections.abc import Sequence

SHARDS = 4               # outbox partitions per bucket, as the tweet store writes them (a test holds the two together)
BUCKET_MS = 10_000       # width of a partition, likewise
TICK_S = 5.0             # seconds between two walks; a row is read about five times in all
REVISIT = (3, 12)        # buckets: 30 s and 2 min; the longest write timeout here is 2 s
GRACE_MS = 3_000         # age from which an unannounced row is published; a publish takes some ms
REMEMBER_MS = 240_000    # how long an announced event is remembered: twice the last visit
FIRST_BUCKETS = 360      # an hour: how far the first walk goes where no mark was ever set
MAX_BUCKETS = 8_640      # a day; rows live no longer


def bucket_of(wall_ms: int) -> int:
    """Return the bucket of a wall time."""
    return wall_ms // BUCKET_MS


def first_walk(mark: int, now_ms: int) -> range:
    """Return the buckets to look at after a start, oldest first. `mark`: 0 where none was ever set.

    It begins 30 s below the mark: rows that came late while nobody looked. What lies there and was announced
    before the start is published once more.
    """
    now = bucket_of(now_ms)
    start = mark - REVISIT[0] if mark else now - FIRST_BUCKETS
    return range(max(start, now - MAX_BUCKETS), now + 1)


def next_walk(last_ms: int, now_ms: int) -> list[int]:
    """Return the buckets to look at, oldest first, when the last walk began at `last_ms` and succeeded."""
    last, now = bucket_of(last_ms), bucket_of(now_ms)
    found = set(range(last - 1, now + 1))
    for later in REVISIT:
        found.update(range(last - later + 1, now - later + 1))
    return sorted(found)


def overdue(written_ms: int, now_ms: int, announced: bool) -> bool:
    """Must the relay publish this row? Not while its writer may still do it, nor where it was announced."""
    return not announced and now_ms - written_ms >= GRACE_MS


def mark_after(now_ms: int, waiting: Sequence[int]) -> int:
    """Return the mark after a walk. `waiting`: buckets with rows that were neither announced nor published yet."""
    return min([bucket_of(now_ms - GRACE_MS), *waiting])
