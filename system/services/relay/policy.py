"""Which outbox partitions to look at, and which rows to publish. Decides; reads no clock, no store.

Rows lie in (shard, 10 s) partitions by the wall time of the change. The tweets service publishes an event right
after its row; the relay publishes what a crash left behind. It listens to the topics and so knows
what was published; a row that nobody announced for `GRACE_MS` is published by the relay. A second copy does no harm.

Each shard has a *mark*: the bucket below which every row is known to be published. Rows can still appear in
old buckets (a batch that timed out and came through later), so the last two minutes are looked at
again and again; after an outage the walk starts at the mark.
"""

from __future__ import annotations

from collections.abc import Sequence

SHARDS = 4               # outbox partitions per bucket, as the tweet store writes them (a test holds the two together)
BUCKET_MS = 10_000       # width of a partition, likewise
RESCAN_BUCKETS = 12      # two minutes: far above any write timeout here (2 s)
HOT_BUCKETS = 2          # looked at each second: the running bucket and the one before
FULL_EVERY_S = 10.0      # seconds between walks over the whole window
GRACE_MS = 3_000         # age from which an unannounced row is published; a publish takes some ms
REMEMBER_MS = 240_000    # how long an announced event is remembered: the window and its width again
FIRST_BUCKETS = 360      # an hour: how far the first walk goes where no mark was ever set
MAX_BUCKETS = 8_640      # one day; rows live no longer


def bucket_of(wall_ms: int) -> int:
    """Return the bucket of a wall time."""
    return wall_ms // BUCKET_MS


def buckets(mark: int, now_ms: int, full: bool) -> range:
    """Return the buckets of one shard to look at, oldest first.

    `mark`: 0 where none was ever set: an hour back then. `full`: the whole window, else only the hot end.
    """
    now = bucket_of(now_ms)
    if not full:
        return range(now - HOT_BUCKETS + 1, now + 1)
    start = min(mark, now - RESCAN_BUCKETS) if mark else now - FIRST_BUCKETS
    return range(max(start, now - MAX_BUCKETS), now + 1)


def overdue(written_ms: int, now_ms: int, announced: bool) -> bool:
    """Must the relay publish this row? Not while its writer may still do it, nor where it was announced."""
    return not announced and now_ms - written_ms >= GRACE_MS


def mark_after(now_ms: int, waiting: Sequence[int]) -> int:
    """Return the mark after a full walk. `waiting`: buckets with rows that were neither announced nor published yet."""
    settled = bucket_of(now_ms - GRACE_MS)
    return min([settled, *waiting])
