"""Users, edges, modes, their outbox, and worker numbers: PostgreSQL."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from system.kernel.events import Event
from system.kernel.ids import Lease


@dataclass(frozen=True)
class User:
    """A user. `password_hash`: argon2, empty where none was read. `created_ms`: wall time since 1970.

    `protected`: only approved followers read what he posts and likes.
    """

    id: int
    username: str
    name: str
    created_ms: int
    followers: int = 0
    following: int = 0
    password_hash: str = ""
    protected: bool = False


@dataclass(frozen=True)
class ProtectedUsers:
    """Who is protected, all of them. `version`: grows with every change."""

    version: int
    ids: frozenset[int]


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
    """`follower_id` follows `followee_id`, or not, as of `version` (grows with every change of the edge).

    `pending`: asked for and not yet answered; then `following` is False.
    """

    follower_id: int
    followee_id: int
    following: bool
    version: int
    pending: bool = False


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

    async def follow(self, follower_id: int, followee_id: int, trace: str = "", key: str = "") -> Edge:
        """Make the edge stand, with an outbox row, in one transaction. Safe to repeat: a repeat writes its outbox row too.

        Where the followee is protected and the edge does not stand yet, it is asked for instead (`pending`), without an
        outbox row. An idempotency `key` is the follower's: a repeat with it changes nothing and tells the edge as it is.
        Raises NotFound where one of the users is unknown, Conflict (422) where the key was used for something else.
        """
        ...

    async def unfollow(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        """Make the edge not stand, likewise; a request is taken back."""
        ...

    async def approve(self, follower_id: int, followee_id: int, trace: str = "", key: str = "") -> Edge:
        """Make a requested edge stand. Safe to repeat. Where nothing was asked for, nothing changes. `key`: the followee's."""
        ...

    async def refuse(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        """End a request. Safe to repeat; an edge that stands is left alone."""
        ...

    async def requests(self, user_id: int, after: int, limit: int) -> list[int]:
        """Return up to `limit` ids above `after` of users who asked to follow, ascending."""
        ...

    async def follows(self, follower_id: int, followee_ids: Sequence[int]) -> set[int]:
        """Return whom of `followee_ids` the user follows, from the primary: a removal that was acknowledged is seen."""
        ...

    async def set_profile(self, user_id: int, name: str | None = None, protected: bool | None = None) -> User:
        """Change name or protection; None keeps it. Safe to repeat. Edges and requests stay. Raises NotFound."""
        ...

    async def protected_users(self, known: int = -1) -> ProtectedUsers | None:
        """Return who is protected, as of now; None where nothing changed since version `known`."""
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
