"""Cached lists and hot tweets: Redis. Volatile: may lose everything at any time."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from system.kernel.events import Tweet


class Kind(enum.StrEnum):
    """The cached lists. The value is the prefix of their Redis keys."""

    HOME = "h"       # tweets for a reader
    AUTHOR = "a"     # tweets by an author
    FOLLOWERS = "f"  # users
    FOLLOWING = "g"  # users


class Entry(NamedTuple):
    """A tweet in a list: its id and its author's. Sorts by id; a tuple, because a rebuild handles hundreds of them."""

    id: int
    author_id: int


@dataclass(frozen=True)
class HomePage:
    """Part of a home timeline as the cache holds it.

    `missing`: lists that are absent, building or of another epoch; where it is not empty, `entries` is empty
    and the caller builds them or reads the truth. `entries`: newest first, merged from the reader's list, his
    own tweets and the pulled authors he follows, without authors he does not follow. `scanned`: lowest id that was
    looked at: everything of the sources above it was considered. `exhausted`: the page reached the floor:
    what is older comes from Cassandra (nothing older exists where `floor` is 0). `pulled`: a pulled author was merged.
    """

    entries: tuple[Entry, ...]
    scanned: int
    floor: int
    exhausted: bool
    pulled: bool
    missing: tuple[tuple[Kind, int], ...] = ()


@dataclass(frozen=True)
class ListPage:
    """Part of one cached list; None is returned instead where the list is not complete. Meaning as in HomePage."""

    entries: tuple[Entry, ...]
    scanned: int
    floor: int
    exhausted: bool


@dataclass(frozen=True)
class Chunk:
    """What one push call did. `status`: 'more', 'done', or 'absent' (list not complete) or 'changed' (its token differs:
    start that event again). `last`: highest follower id handled. `pushed`: timelines the tweet was added to;
    `skipped`: followers without a live timeline."""

    status: str
    last: int
    pushed: int
    skipped: int
    token: str


class TimelineCache(Protocol):
    """Lists that are complete down to their floor, or absent. Volatile: may lose everything at any time.

    Only `begin` creates a list (as *building*, with an owner's token and a TTL); additions go into existing lists
    only; every removal of an edge deletes the list. A list whose mark carries another epoch (the server's life as primary)
    counts as absent.
    """

    async def home(self, user_id: int, pulled: Sequence[int], before: int | None, limit: int) -> HomePage:
        """Return one page of the reader's home timeline in one call. `pulled`: all authors that are merged at read."""
        ...

    async def page(self, kind: Kind, owner: int, before: int | None, limit: int) -> ListPage | None:
        """Return one page of a list of tweets (HOME or AUTHOR), or None where it is not complete."""
        ...

    async def pages(self, kind: Kind, owners: Sequence[int], before: int | None, limit: int) -> dict[int, ListPage]:
        """Return the same for many owners in one round trip; owners whose list is not complete are left out."""
        ...

    async def members(self, kind: Kind, owner: int) -> list[int] | None:
        """Return all users of a FOLLOWERS or FOLLOWING list, ascending, or None where it is not complete."""
        ...

    async def begin(self, kind: Kind, owner: int) -> str | None:
        """Mark the list *building* and return the owner's token; None where another building mark or a complete list stands."""
        ...

    async def complete(self, kind: Kind, owner: int, token: str, entries: Iterable[Entry], floor: int) -> bool:
        """Merge `entries` into the building list and mark it complete for ids >= `floor` in one call.

        Does nothing and returns False unless `token` still stands. For lists of users `Entry.id` is the user.
        """
        ...

    async def push_chunk(self, author_id: int, entry: Entry, after: int, token: str | None) -> Chunk:
        """Add `entry` to the live home timelines of the next followers of `author_id` above `after` (one Lua call).

        `token`: of the follower list as the event's first chunk saw it; None on the first chunk.
        """
        ...

    async def push(self, entry: Entry, owners: Sequence[int]) -> tuple[int, int]:
        """Add `entry` to the live home timelines of `owners`; return (pushed, skipped). Safe to repeat."""
        ...

    async def add_own(self, entry: Entry) -> None:
        """Add `entry` to its author's own home and author lists where they are live. One call; safe to repeat."""
        ...

    async def back_fill(self, user_id: int, entries: Sequence[Entry]) -> bool:
        """Add `entries` (ids below the floor are left out) to a live home timeline. False where there is none."""
        ...

    async def add_member(self, kind: Kind, owner: int, user_id: int) -> bool:
        """Add a user to a live FOLLOWERS or FOLLOWING list. False where there is none."""
        ...

    async def drop(self, lists: Sequence[tuple[Kind, int]]) -> None:
        """Delete lists; a rebuild under way loses its token. Safe to repeat."""
        ...

    async def remove_tweet(self, entry: Entry, owners: Sequence[int]) -> None:
        """Remove a deleted tweet (an id that can never return) from its author's list and from `owners`' home lists."""
        ...

    async def remove_tweet_chunk(self, author_id: int, entry: Entry, after: int) -> Chunk:
        """Remove a deleted tweet from the home lists of the next followers of `author_id` above `after`."""
        ...

    async def clear(self) -> None:
        """Delete every list; a rebuild under way loses its token. Safe to repeat.

        For whoever learns that an effect may be missing in any of them. What is built afterwards comes from
        the truth.
        """
        ...

    async def epoch(self) -> str:
        """Return what names the life of the server behind the connection: another one after a restart or a failover."""
        ...


class TweetCache(Protocol):
    """Hot tweets in Redis. Fills never overwrite: a `deleted` marker wins over a late fill."""

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, Tweet | None]:
        """Return what is cached: a tweet, or None for a tweet known as deleted. Ids that are not cached are left out."""
        ...

    async def fill(self, tweets: Sequence[Tweet]) -> None:
        """Cache tweets read from the truth, where nothing stands (SET NX EX). Deleted ones set the marker."""
        ...

    async def mark_deleted(self, tweet_id: int) -> None:
        """Set the *deleted* marker, whatever stands there."""
        ...

    async def announce(self, user_ids: Sequence[int]) -> None:
        """Tell all processes that these users changed; none: that anything may have. Safe to repeat."""
        ...

    async def changes(self, since: int) -> tuple[int, frozenset[int] | None]:
        """Return (mark, users announced after the mark `since`); None in place of the users: anything may have changed.

        -1 asks for the mark alone. Announcements that were lost with the cache, or are too many, are told as None.
        """
        ...
