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
    """A user. `password_hash`: argon2, empty if not read. `created_ms`: wall time since 1970.

    `protected`: only approved followers can read their tweets and likes.
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
    """All protected users. `version`: grows with every change."""

    version: int
    ids: frozenset[int]


class Mode(enum.StrEnum):
    """How an author's tweets reach readers."""

    PUSH = "push"
    PULL = "pull"


@dataclass(frozen=True)
class AuthorMode:
    """An author's durable mode. `since_id`: first id of the mode. `changed_ms`: wall time (of the database) of the change.

    `pulled_once`: was ever pulled, so readers keep merging the author's list.
    """

    author_id: int
    mode: Mode
    since_id: int
    changed_ms: int
    pulled_once: bool


@dataclass(frozen=True)
class Edge:
    """`follower_id` follows `followee_id`, or not, as of `version` (grows with every change of the edge).

    `pending`: requested and not yet approved or refused; then `following` is False.
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

    async def ids_of(self, usernames: Sequence[str]) -> dict[str, int]:
        """Return lower-case username -> id of those of `usernames` (in lower case) that exist."""
        ...

    async def follow(self, follower_id: int, followee_id: int, trace: str = "", key: str = "") -> Edge:
        """Create the edge and an outbox row in one transaction.

        Safe to repeat: a repeat writes its outbox row too.

        If the followee is protected and the edge does not exist yet, it is requested instead (`pending`),
        without an outbox row. An idempotency `key` belongs to the follower: a repeat with it changes nothing
        and returns the edge as it is. Raises NotFound if one of the users is unknown, Conflict (422) if the
        key was used for something else.
        """
        ...

    async def unfollow(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        """Remove the edge, or withdraw a request, and write an outbox row in one transaction.

        Safe to repeat.
        """
        ...

    async def approve(self, follower_id: int, followee_id: int, trace: str = "", key: str = "") -> Edge:
        """Turn a request into an edge.

        Safe to repeat. Without a request nothing changes. `key`: the followee's.
        """
        ...

    async def refuse(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        """Remove a request. Safe to repeat; an existing edge is not changed."""
        ...

    async def requests(self, user_id: int, after: int, limit: int) -> list[int]:
        """Return up to `limit` ids above `after` of users with a follow request, ascending."""
        ...

    async def follows(self, follower_id: int, followee_ids: Sequence[int]) -> set[int]:
        """Return the subset of `followee_ids` that the user follows.

        Read from the primary: acknowledged removals are visible.
        """
        ...

    async def set_profile(self, user_id: int, name: str | None = None, protected: bool | None = None) -> User:
        """Change name or protection; None keeps it. Safe to repeat. Edges and requests stay. Raises NotFound."""
        ...

    async def protected_users(self, known: int = -1) -> ProtectedUsers | None:
        """Return the protected users as of now; None if nothing changed since version `known`."""
        ...

    async def edge(self, follower_id: int, followee_id: int) -> Edge:
        """Return the edge as it is (`following=False, version=0` if it never existed)."""
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
        """Return one author's mode, None if it was always push."""
        ...

    async def set_mode(self, author_id: int, mode: Mode, since_id: int) -> AuthorMode:
        """Record a change of mode. Safe to repeat: the same mode keeps its first `changed_ms`."""
        ...

    async def drain_outbox(self, limit: int, publish: Publish) -> int:
        """Publish up to `limit` outbox rows and delete them, in one transaction (FOR UPDATE SKIP LOCKED). Return how many."""
        ...

    def outbox_wakeups(self) -> AsyncIterator[None]:
        """Yield whenever new outbox rows may exist (LISTEN), and at least every second."""
        ...


class Publish(Protocol):
    """Sink of an outbox: returns only after every event is acknowledged."""

    async def __call__(self, events: Sequence[Event]) -> None: ...


class LeaseStore(Protocol):
    """Worker numbers for ids, leased durably (PostgreSQL), granted least-recently-used."""

    async def acquire(self, holder: str, ttl_s: float) -> Lease:
        """Grant a free number. Its ids must have times above the last holder's ceiling (`floor_ms`).

        Raises Overloaded if all 1024 numbers are held.
        """
        ...

    async def renew(self, holder: str, lease: Lease, ttl_s: float) -> Lease:
        """Extend the lease and raise its ceiling.

        Raises Conflict if the number was granted to another holder.
        """
        ...

    async def release(self, holder: str, lease: Lease) -> None:
        """Release the number. Safe to repeat."""
        ...
