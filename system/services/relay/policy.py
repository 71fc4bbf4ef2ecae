"""Which outbox partitions to scan, and which rows to publish. Pure: reads no clock, no store.

Rows are stored in partitions of (shard, 10 s) by the wall time of the change; a *bucket* is the 10 s. The
tweets service writes a row and then publishes its event; the relay publishes what a crash left unpublished.
It consumes the topics, so it knows what was published. If the event of a row has not appeared in its topic
within `GRACE_MS`, the relay publishes it. A second copy does no harm, because consumers are idempotent.

| a bucket is scanned | to find |
|---|---|
| every `TICK_S` while it is new | rows that a crash left unpublished |
| 30 s and 120 s later, once each | late rows: a write that timed out and was applied after all |
| after an outage of the relay, from the mark | all of these |

The *mark* of a shard is the bucket below which every row is known to be published.
"""

from __future__ import annotations

from collections.abc import Sequence

SHARDS = 4               # outbox partitions per bucket, as in the tweet store (a test checks that both are equal)
BUCKET_MS = 10_000       # length of a bucket; the same test
TICK_S = 5.0             # seconds between two scans; a row is read about five times in total
REVISIT = (3, 12)        # buckets: 30 s and 2 min; the longest write timeout here is 2 s
GRACE_MS = 3_000         # age from which a row without a known event is published; a publish takes some ms
REMEMBER_MS = 240_000    # how long the id of a published event is kept: twice the age of a row at its last scan
FIRST_BUCKETS = 360      # an hour: how far back the first scan starts if no mark was ever set
MAX_BUCKETS = 8_640      # a day: the TTL of rows


def bucket_of(wall_ms: int) -> int:
    """Return the bucket of a wall time."""
    return wall_ms // BUCKET_MS


def first_walk(mark: int, now_ms: int) -> range:
    """Return the buckets to scan after a start, oldest first. `mark`: 0 if none was ever set.

    It starts 30 s below the mark, for late rows that were written while no relay ran. Rows there whose events
    were published before the start are published again.
    """
    now = bucket_of(now_ms)
    start = mark - REVISIT[0] if mark else now - FIRST_BUCKETS
    return range(max(start, now - MAX_BUCKETS), now + 1)


def next_walk(last_ms: int, now_ms: int) -> list[int]:
    """Return the buckets to scan, oldest first. `last_ms`: start of the last successful scan."""
    last, now = bucket_of(last_ms), bucket_of(now_ms)
    buckets = set(range(last - 1, now + 1))
    for later in REVISIT:
        buckets.update(range(last - later + 1, now - later + 1))
    return sorted(buckets)


def overdue(written_ms: int, now_ms: int, announced: bool) -> bool:
    """Return whether the relay must publish this row: its event has not appeared within `GRACE_MS`."""
    return not announced and now_ms - written_ms >= GRACE_MS


def mark_after(now_ms: int, waiting: Sequence[int]) -> int:
    """Return the mark after a scan. `waiting`: buckets with rows whose events have not appeared yet."""
    return min([bucket_of(now_ms - GRACE_MS), *waiting])
