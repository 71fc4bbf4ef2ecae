"""How a page of a home timeline is assembled. Pure: reads no clock, no store.

Pages are read from new ids to old ones. What was read of each source (the reader's list, their own tweets,
pulled authors, rows in Cassandra) is complete from the newest id down to its *low mark*. A page may show only
ids at or above the highest low mark: below it, at least one source has not been read. The cursor is the last
id that was scanned, not the last one shown. So pages are disjoint, ordered and without gaps.

A cached list has a *floor*: it is complete for ids at or above it. A page that reaches the floor continues in
Cassandra, unless the floor is 0: nothing older exists.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Entry = TypeVar("Entry", bound=tuple[int, int])
"""(tweet id, author id), or a subclass of such a tuple"""

DEFAULT_RESULTS = 100  # tweets; Twitter's API v2 for the home timeline
MIN_PER_AUTHOR = 40    # ids that a rebuild reads per author, at least: two pages of 20 tweets of one author
SPREAD = 4             # a rebuild reads this many times the list's cap in total, to include very active authors


@dataclass(frozen=True)
class Source(Generic[Entry]):
    """What was read of one source.

    `entries`: newest first, complete for ids >= `low`; a `low` of 0 means that nothing older exists.
    """

    entries: Sequence[Entry]
    low: int


@dataclass(frozen=True)
class Merged(Generic[Entry]):
    """The result of `merge`.

    `entries`: newest first, each id once, complete for ids >= `low`. `exhausted`: no source has older
    entries.
    """

    entries: tuple[Entry, ...]
    low: int
    exhausted: bool


@dataclass(frozen=True)
class RebuildPlan:
    """How a home timeline is rebuilt.

    `per_author`: ids read per author. `authors`: the followed users and the reader.
    """

    per_author: int
    authors: tuple[int, ...]


def merge(sources: Sequence[Source[Entry]], limit: int) -> Merged[Entry]:
    """Merge sources into at most `limit` entries without gaps.

    Entries below the highest low mark of the sources are omitted. If there are more than `limit` entries, the
    low mark of the result is the id of its last entry.
    """
    low = max((source.low for source in sources), default=0)
    kept: list[Entry] = []
    last = -1
    # Sorting runs that are already sorted costs one pass in C; heapq.merge would cost a Python step per
    # entry.
    for entry in sorted(itertools.chain.from_iterable(source.entries for source in sources), reverse=True):
        if entry[0] < low:
            break
        if entry[0] == last:
            continue
        if len(kept) == limit:
            return Merged(tuple(kept), last, False)
        kept.append(entry)
        last = entry[0]
    return Merged(tuple(kept), low, low == 0)


def source_of(entries: Sequence[Entry], limit: int) -> Source[Entry]:
    """Return the source for a read of `limit` rows of one author; fewer rows mean that nothing older exists."""
    return Source(entries, entries[-1][0] if len(entries) >= limit and entries else 0)


def plan_rebuild(user_id: int, followings: Sequence[int], cap: int) -> RebuildPlan:
    """Return which authors to read, and how many ids of each, for a list of `cap` entries.

    The authors include the reader, whose own tweets are part of the timeline.
    """
    authors = tuple(dict.fromkeys([*followings, user_id]))
    return RebuildPlan(min(cap, max(MIN_PER_AUTHOR, SPREAD * cap // len(authors))), authors)


def floor_of(merged: Merged[Entry]) -> int:
    """Return the floor of a list that was rebuilt as `merged`: 0 if nothing older exists."""
    return 0 if merged.exhausted else merged.low


def tail_before(before: int | None, floor: int) -> int:
    """Return the exclusive upper bound of the read from Cassandra that continues a cached list below `floor`."""
    return floor if before is None else min(before, floor)


def admits(running: int, waiting: int, concurrency: int, queue: int) -> bool:
    """Return whether one more rebuild may start or queue; otherwise the response is 503 with `retry-after`."""
    return running < concurrency or waiting < queue


def expected_wait_s(running: int, waiting: int, concurrency: int, took_s: float) -> float:
    """Return the expected seconds until one more rebuild gets a slot.

    `took_s`: how long recent rebuilds held theirs.
    """
    return 0.0 if running < concurrency else (waiting + 1) * took_s / concurrency


def in_time(wait_s: float, took_s: float, left_s: float) -> bool:
    """Return whether a rebuild that starts after `wait_s` ends before its reader's deadline, in `left_s`.

    A free slot (`wait_s` 0) is always used, however slow rebuilds are: the next read uses the rebuilt list,
    and the duration of the rebuild updates `took_s`.
    """
    return wait_s <= 0.0 or wait_s + took_s <= left_s


def mean_s(before_s: float, took_s: float) -> float:
    """Return the moving average of the time that a slot was held; the last ten count most.

    `before_s`: the previous average; 0 if nothing was measured yet.
    """
    return took_s if before_s <= 0.0 else before_s + (took_s - before_s) / 5


MAX_ATTEMPTS = 4
"""Number of attempts to read a page from cached lists, before it is read from the durable stores."""
