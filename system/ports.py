"""The promises that services stand on. Each port has a real adapter and a memory adapter, held to one contract test.

Every method states what it promises (consistency), whether it may be repeated (idempotency) and how it fails.
All raise `StoreUnavailable`: `definite=True` where certainly nothing happened, else the outcome is unknown.
Pages are ordered newest first (descending id). `before`: exclusive upper bound of ids; None = from the newest.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from system.kernel.events import Event, Tweet
from system.kernel.ids import Lease

# ---- TweetStore: Cassandra ---------------------------------------------------------------------------

@dataclass(frozen=True)
class Reservation:
    """What stands under an idempotency key: the id that the first request reserved, and its body's hash.

    `fresh`: this call made the reservation.
    """

    tweet_id: int
    body_hash: str
    fresh: bool


@dataclass(frozen=True)
class OutboxRow:
    """An event that was made durable with its cause. `written_ms`: wall time of the id or change it belongs to."""

    shard: int
    bucket: int
    event: Event
    written_ms: int


class TweetStore(Protocol):
    """Tweets by id and by author, idempotency keys and the outbox. QUORUM reads and writes."""

    async def reserve(self, user_id: int, key: str, tweet_id: int, body_hash: str) -> Reservation:
        """Bind `key` of `user_id` to `tweet_id`, once. Linearisable; a repeat returns the first reservation."""
        ...

    async def append(self, tweet: Tweet, trace: str = "") -> None:
        """Make `tweet` and its outbox row durable in one logged batch.

        Safe to repeat: the write timestamp derives from the id, so a replay is a no-op and never newer than a delete.
        """
        ...

    async def upsert(self, tweets: Sequence[Tweet]) -> None:
        """Write tweets that an event carried, with their original timestamps, without outbox rows. Safe to repeat."""
        ...

    async def delete(self, tweet_id: int, author_id: int, trace: str = "") -> None:
        """Set `deleted` on the tweet, in both tables, with an outbox row. Monotone; safe to repeat."""
        ...

    async def get(self, tweet_ids: Sequence[int]) -> dict[int, Tweet]:
        """Return the tweets that exist, deleted ones included with `deleted=True`."""
        ...

    async def by_author(self, author_id: int, before: int | None, limit: int) -> list[Tweet]:
        """Return the author's newest `limit` tweets below `before`, deleted ones included with `deleted=True`."""
        ...

    async def outbox(self, shard: int, bucket: int) -> list[OutboxRow]:
        """Return the rows of one (shard, 10 s) partition, oldest first."""
        ...

    async def outbox_mark(self, shard: int) -> int:
        """Return the bucket below which every row of `shard` is known to be published; 0 where none is."""
        ...

    async def set_outbox_mark(self, shard: int, bucket: int) -> None:
        """Raise the mark of `shard`."""
        ...


# ---- TimelineCache: Redis ----------------------------------------------------------------------------

class Kind(enum.StrEnum):
    """The cached lists. The value is the prefix of their Redis keys."""

    HOME = "h"       # tweets for a reader
    AUTHOR = "a"     # tweets by an author
    FOLLOWERS = "f"  # users
    FOLLOWING = "g"  # users


@dataclass(frozen=True)
class Entry:
    """A tweet in a list: its id and its author's."""

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
    only; every removal of an edge deletes the list. A list whose mark carries another epoch (the server's run id)
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

    async def epoch(self) -> str:
        """Return the run id of the server behind the connection."""
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


# ---- UserDirectory: PostgreSQL -----------------------------------------------------------------------

@dataclass(frozen=True)
class User:
    """A user. `password_hash`: argon2, empty where none was read. `created_ms`: wall time since 1970."""

    id: int
    username: str
    name: str
    created_ms: int
    followers: int = 0
    following: int = 0
    password_hash: str = ""


class Mode(enum.StrEnum):
    """How an author's tweets reach readers."""

    PUSH = "push"
    PULL = "pull"


@dataclass(frozen=True)
class AuthorMode:
    """An author's durable mode. `since_id`: first id of the mode. `changed_ms`: wall time (of the database) of the change.

    `pulled_once`: was ever pulled, so readers keep merging his list.
    """

    author_id: int
    mode: Mode
    since_id: int
    changed_ms: int
    pulled_once: bool


@dataclass(frozen=True)
class Edge:
    """`follower_id` follows `followee_id`, or not, as of `version` (grows with every change of the edge)."""

    follower_id: int
    followee_id: int
    following: bool
    version: int


class UserDirectory(Protocol):
    """Users, edges, modes and their outbox. Serial on the primary; a commit is never cancelled."""

    async def create(self, username: str, name: str, password_hash: str, key: str = "") -> User:
        """Sign a user up. With an idempotency `key` a repeat returns the first user. Raises Conflict on a taken name."""
        ...

    async def by_id(self, user_ids: Sequence[int]) -> dict[int, User]:
        """Return the users that exist, without password hashes."""
        ...

    async def by_name(self, username: str) -> User | None:
        """Return the user with this name (case does not matter), with the password hash, or None."""
        ...

    async def follow(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        """Make the edge stand, with an outbox row, in one transaction. Safe to repeat: a repeat writes its outbox row too.

        Raises NotFound where one of the users is unknown.
        """
        ...

    async def unfollow(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        """Make the edge not stand, likewise."""
        ...

    async def edge(self, follower_id: int, followee_id: int) -> Edge:
        """Return the edge as it is (`following=False, version=0` where it never was)."""
        ...

    async def followers(self, user_id: int, after: int, limit: int) -> list[int]:
        """Return up to `limit` follower ids above `after`, ascending."""
        ...

    async def following(self, user_id: int, after: int, limit: int) -> list[int]:
        """Return up to `limit` followed ids above `after`, ascending."""
        ...

    async def audience(self, user_id: int) -> int:
        """Return the maintained number of followers (not a COUNT)."""
        ...

    async def modes(self) -> list[AuthorMode]:
        """Return the modes of all authors that are or were pulled."""
        ...

    async def mode(self, author_id: int) -> AuthorMode | None:
        """Return one author's mode, None where it never was anything but push."""
        ...

    async def set_mode(self, author_id: int, mode: Mode, since_id: int) -> AuthorMode:
        """Record a change of mode. Safe to repeat: the same mode keeps its first `changed_ms`."""
        ...

    async def drain_outbox(self, limit: int, publish: Publish) -> int:
        """Publish up to `limit` outbox rows and delete them, in one transaction (FOR UPDATE SKIP LOCKED). Return how many."""
        ...

    def outbox_wakeups(self) -> AsyncIterator[None]:
        """Yield whenever new outbox rows may stand (LISTEN), and at least each second."""
        ...


class Publish(Protocol):
    """What an outbox is drained into: returns only after every event is acknowledged."""

    async def __call__(self, events: Sequence[Event]) -> None: ...


class LeaseStore(Protocol):
    """Worker numbers for ids, leased durably (PostgreSQL), granted least-recently-used."""

    async def acquire(self, holder: str, ttl_s: float) -> Lease:
        """Grant a free number. Its ids must lie above the last holder's ceiling (`floor_ms`).

        Raises Overloaded where all 1024 numbers are held.
        """
        ...

    async def renew(self, holder: str, lease: Lease, ttl_s: float) -> Lease:
        """Prolong the lease and raise its ceiling. Raises Conflict where the number was given to another."""
        ...

    async def release(self, holder: str, lease: Lease) -> None:
        """Give the number back. Safe to repeat."""
        ...


# ---- EventLog: Kafka ---------------------------------------------------------------------------------

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

    async def close(self) -> None: ...


class EventLog(Protocol):
    """Topics of events. A publish returns after acks=all; the same event may be published more than once."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Append `events`; return after all are acknowledged. Order holds within one key."""
        ...

    async def bury(self, record: Record, reason: str, group: str) -> None:
        """Append a record that cannot be handled to `<topic>.dead`; return after the acknowledgement."""
        ...

    async def consumer(self, group: str, topics: Sequence[str]) -> Consumer:
        """Join `group` on `topics`."""
        ...

    async def lag(self, group: str, topics: Sequence[str]) -> dict[str, int]:
        """Return records not yet committed by `group`, per topic."""
        ...


# ---- SearchIndex: Elasticsearch ----------------------------------------------------------------------

@dataclass(frozen=True)
class Document:
    """A tweet as the index holds it. `version`: external, the time (ns) at which the truth was read; the newest wins."""

    tweet: Tweet
    version: int


class SearchIndex(Protocol):
    """Full text of tweets. Visible within about a second (`refresh_interval: 1s`)."""

    async def index(self, documents: Sequence[Document]) -> None:
        """Index in bulk. Safe to repeat; an older version never overwrites a newer one. Deleted tweets stay as `deleted`."""
        ...

    async def search(self, query: str, before: int | None, limit: int) -> list[int]:
        """Return ids of live tweets that hold all words of `query`, newest first, below `before`."""
        ...

    async def refresh(self) -> None:
        """Make what was indexed visible now. For tests and final reads."""
        ...


# ---- BlobStore: MinIO (plain S3) ---------------------------------------------------------------------

@dataclass(frozen=True)
class Blob:
    """What is known of a stored object. `sha256`: hex of its bytes where the uploader declared it, else empty."""

    key: str
    size: int
    content_type: str
    sha256: str


class BlobStore(Protocol):
    """Objects and signed URLs. Read-after-write."""

    def signed_put(self, key: str, content_type: str, expires_s: int) -> str:
        """Return a URL to which the client PUTs the bytes. No I/O."""
        ...

    def signed_get(self, key: str, expires_s: int) -> str:
        """Return a URL from which the client GETs the bytes. No I/O."""
        ...

    async def head(self, key: str) -> Blob | None:
        """Return what is stored under `key`, or None."""
        ...

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store bytes. Safe to repeat."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the bytes. Raises NotFound."""
        ...


@dataclass(frozen=True)
class Ports:
    """Everything a service may stand on. `bootstrap` fills what a service needs; the rest is absent."""

    tweets: TweetStore
    timelines: TimelineCache
    hot: TweetCache
    users: UserDirectory
    leases: LeaseStore
    log: EventLog
    index: SearchIndex
    blobs: BlobStore


Json = Mapping[str, Any]
