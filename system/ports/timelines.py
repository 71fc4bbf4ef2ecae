"""Cached lists and hot tweets: Redis. Volatile: may lose everything at any time."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from system.kernel.events import Tweet

IS_COMPLETE = ""  # what `TimelineCache.begin` returns, instead of a token, for a list that is complete


class Kind(enum.StrEnum):
    """The cached lists. The value is the prefix of their Redis keys."""

    HOME = "h"       # tweets for a reader
    AUTHOR = "a"     # tweets by an author
    FOLLOWERS = "f"  # users
    FOLLOWING = "g"  # users


class Entry(NamedTuple):
    """A tweet in a list: its id and its author's id.

    Sorts by id; a tuple, because a rebuild handles hundreds of them.
    """

    id: int
    author_id: int


@dataclass(frozen=True)
class HomePage:
    """Part of a home timeline as cached.

    `missing`: lists that are absent, building or of another epoch; if it is not empty, `entries` is empty and
    the caller builds them or reads the source. `entries`: newest first, merged from the reader's list, their
    own tweets and the pulled authors they follow, without authors they do not follow. `scanned`: lowest id
    that was considered: the page covers everything above it. `exhausted`: the page reached the floor: older
    tweets must be read from Cassandra (there are none if `floor` is 0). `pulled`: a pulled author was merged.
    """

    entries: tuple[Entry, ...]
    scanned: int
    floor: int
    exhausted: bool
    pulled: bool
    missing: tuple[tuple[Kind, int], ...] = ()


@dataclass(frozen=True)
class ListPage:
    """Part of one cached list; None is returned if the list is not complete. Fields as in HomePage."""

    entries: tuple[Entry, ...]
    scanned: int
    floor: int
    exhausted: bool


@dataclass(frozen=True)
class Chunk:
    """Outcome of one push call.

    `status`: 'more', 'done', or 'absent' (list not complete) or 'changed' (its token differs: restart
    processing of the event). `last`: highest follower id handled. `pushed`: timelines that the tweet was
    added to; `skipped`: followers without a live timeline.
    """

    status: str
    last: int
    pushed: int
    skipped: int
    token: str


class TimelineCache(Protocol):
    """Lists that are complete down to their floor, or absent. Volatile: may lose everything at any time.

    Only `begin` creates a list (as *building*, with an owner's token and a TTL); additions change only
    existing lists; every removal of an edge deletes the list. A list whose marker has another epoch (the
    server's term as primary) counts as absent.
    """

    async def home(self, user_id: int, pulled: Sequence[int], before: int | None, limit: int) -> HomePage:
        """Return one page of the reader's home timeline in one call.

        `pulled`: all authors that are merged on read.
        """
        ...

    async def page(self, kind: Kind, owner: int, before: int | None, limit: int) -> ListPage | None:
        """Return one page of a list of tweets (HOME or AUTHOR), or None if it is not complete."""
        ...

    async def pages(self, kind: Kind, owners: Sequence[int], before: int | None, limit: int) -> dict[int, ListPage]:
        """Return the same for many owners in one round trip; owners whose list is not complete are omitted.
        """
        ...

    async def members(self, kind: Kind, owner: int) -> list[int] | None:
        """Return all users of a FOLLOWERS or FOLLOWING list, ascending, or None if it is not complete."""
        ...

    async def begin(self, kind: Kind, owner: int) -> str | None:
        """Mark the list *building* and return the owner's token.

        None if another owner is building it, IS_COMPLETE if it is complete: then nothing is changed.
        """
        ...

    async def complete(self, kind: Kind, owner: int, token: str, entries: Iterable[Entry], floor: int) -> bool:
        """Merge `entries` into the building list and mark it complete for ids >= `floor` in one call.

        Does nothing and returns False unless `token` is still valid. For lists of users `Entry.id` is the
        user.
        """
        ...

    async def push_chunk(self, author_id: int, entry: Entry, after: int, token: str | None) -> Chunk:
        """Add `entry` to the live home timelines of the next followers of `author_id` above `after` (one Lua call).

        `token`: of the follower list at the event's first chunk; None on the first chunk.
        """
        ...

    async def push(self, entry: Entry, owners: Sequence[int]) -> tuple[int, int]:
        """Add `entry` to the live home timelines of `owners`; return (pushed, skipped). Safe to repeat."""
        ...

    async def add_own(self, entry: Entry) -> None:
        """Add `entry` to its author's own home and author lists if they are live.

        One call; safe to repeat.
        """
        ...

    async def back_fill(self, user_id: int, entries: Sequence[Entry]) -> bool:
        """Add `entries` (ids below the floor are omitted) to a live home timeline. False if there is none."""
        ...

    async def add_member(self, kind: Kind, owner: int, user_id: int) -> bool:
        """Add a user to a live FOLLOWERS or FOLLOWING list. False if there is none."""
        ...

    async def drop(self, lists: Sequence[tuple[Kind, int]]) -> None:
        """Delete lists; a rebuild in progress loses its token. Safe to repeat."""
        ...

    async def remove_tweet(self, entry: Entry, owners: Sequence[int]) -> None:
        """Remove a deleted tweet (an id that can never return) from its author's list and from `owners`' home lists."""
        ...

    async def remove_tweet_chunk(self, author_id: int, entry: Entry, after: int) -> Chunk:
        """Remove a deleted tweet from the home lists of the next followers of `author_id` above `after`."""
        ...

    async def clear(self) -> None:
        """Delete every list; a rebuild in progress loses its token. Safe to repeat.

        Called when an effect may be missing in any list. Lists that are built afterwards are read from the
        source.
        """
        ...

    async def epoch(self) -> str:
        """Return the epoch of the server behind the connection: it changes with a restart or a failover."""
        ...


class TweetCache(Protocol):
    """Hot tweets in Redis. Fills never overwrite: a `deleted` marker wins over a late fill."""

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, Tweet | None]:
        """Return what is cached: a tweet, or None for a tweet known as deleted.

        Ids that are not cached are omitted.
        """
        ...

    async def fill(self, tweets: Sequence[Tweet]) -> None:
        """Cache tweets read from the source, unless an entry exists (SET NX EX).

        Deleted ones set the marker.
        """
        ...

    async def mark_deleted(self, tweet_id: int) -> None:
        """Set the *deleted* marker, replacing any entry."""
        ...

    async def announce(self, user_ids: Sequence[int]) -> None:
        """Notify all processes that these users changed; no ids: any user may have changed.

        Safe to repeat.
        """
        ...

    async def changes(self, since: int) -> tuple[int, frozenset[int] | None]:
        """Return (mark, users announced after the mark `since`); None for users: any may have changed.

        -1 returns only the mark. None is also returned if announcements were lost with the cache, or are too
        many.
        """
        ...
