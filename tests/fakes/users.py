"""In-memory user directory and worker leases: the same contract, in one process, without durability."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from system.kernel import clock as clocks
from system.kernel import events, ids
from system.kernel.errors import Conflict, NotFound, Overloaded, WrongInput
from system.kernel.events import Event
from system.kernel.ids import Lease
from system.ports import AuthorMode, Edge, Mode, ProtectedUsers, Publish, User
from tests.fakes.base import Memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WAKE_EVERY_S = 1.0
CEILING_ALLOWANCE_MS = 10_000


class Claims:
    """Idempotency keys of changes that happen in the same step."""

    def __init__(self) -> None:
        self._bound: dict[tuple[int, str], str] = {}

    def claim(self, user_id: int, key: str, meaning: str) -> bool:
        """Bind the key; return False if it is already bound.

        Raises Conflict (422) if it is bound to something else.
        """
        if key and self._bound.get((user_id, key), meaning) != meaning:
            problem = Conflict(f"The Idempotency-Key {key[:40]!r} was used for another request; use a new key.")
            problem.status = 422
            raise problem
        fresh = not key or (user_id, key) not in self._bound
        self._bound.setdefault((user_id, key), meaning)
        return fresh


class MemoryUsers(Memory):
    """`UserDirectory` in dicts. `clock` is the database's clock."""

    def __init__(self, clock: clocks.Clock | None = None) -> None:
        self._clock = clock or clocks.SystemClock()
        self._woken = asyncio.Event()
        self._draining = asyncio.Lock()
        self._privacy = 0
        self._reset()

    def _reset(self) -> None:
        self._users: dict[int, User] = {}
        self._names: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        self._edges: dict[tuple[int, int], Edge] = {}
        self._in: defaultdict[int, set[int]] = defaultdict(set)
        self._out: defaultdict[int, set[int]] = defaultdict(set)
        self._modes: dict[int, AuthorMode] = {}
        self._outbox: list[Event] = []
        self._claims = Claims()
        self._privacy += 1

    # ---- users ---------------------------------------------------------------------------------------

    async def create(self, username: str, name: str, password_hash: str, key: str = "") -> User:
        first = self._users.get(self._keys.get(key, 0)) if key else None
        if first is not None:
            if first.username.lower() != username.lower():
                raise Conflict(f"The idempotency key {key!r} was used for another sign-up; use another key for {username!r}.")
            return replace(first, password_hash="")
        if username.lower() in self._names:
            raise Conflict(f"The name {username!r} is taken; choose another one.")
        user_id = max(self._users, default=0) + 1
        self._add(User(user_id, username, name, self._clock.wall_ms(), password_hash=password_hash))
        if key:
            self._keys[key] = user_id
        return replace(self._users[user_id], password_hash="")

    def _add(self, user: User) -> None:
        self._users[user.id] = user
        self._names[user.username.lower()] = user.id

    async def by_id(self, user_ids: Sequence[int]) -> dict[int, User]:
        return {user_id: replace(self._counted(user_id), password_hash="") for user_id in user_ids if user_id in self._users}

    async def by_name(self, username: str) -> User | None:
        user_id = self._names.get(username.lower())
        return None if user_id is None else self._counted(user_id)

    async def ids_of(self, usernames: Sequence[str]) -> dict[str, int]:
        return {name: self._names[name] for name in usernames if name in self._names}

    def _counted(self, user_id: int) -> User:
        return replace(self._users[user_id], followers=len(self._in[user_id]), following=len(self._out[user_id]))

    async def set_profile(self, user_id: int, name: str | None = None, protected: bool | None = None) -> User:
        was = self._users.get(user_id)
        if was is None:
            raise NotFound(f"Could not find user with id: [{user_id}].")
        user = replace(was, name=was.name if name is None else name, protected=was.protected if protected is None else protected)
        self._users[user_id] = user
        self._privacy += user.protected != was.protected
        return replace(self._counted(user_id), password_hash="")

    async def protected_users(self, known: int = -1) -> ProtectedUsers | None:
        if known == self._privacy:
            return None
        return ProtectedUsers(self._privacy, frozenset(user.id for user in self._users.values() if user.protected))

    # ---- edges ---------------------------------------------------------------------------------------

    async def follow(self, follower_id: int, followee_id: int, trace: str = "", key: str = "") -> Edge:
        return self._change_edge(follower_id, followee_id, "follow", trace, follower_id, key)

    async def unfollow(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        return self._change_edge(follower_id, followee_id, "unfollow", trace)

    async def approve(self, follower_id: int, followee_id: int, trace: str = "", key: str = "") -> Edge:
        return self._change_edge(follower_id, followee_id, "approve", trace, followee_id, key)

    async def refuse(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        return self._change_edge(follower_id, followee_id, "refuse", trace)

    def _change_edge(self, follower_id: int, followee_id: int, change: str, trace: str, caller: int = 0, key: str = "") -> Edge:
        if follower_id == followee_id:
            raise WrongInput(f"User {follower_id} cannot follow themselves; name another user.")
        if follower_id not in self._users or followee_id not in self._users:
            raise NotFound(f"There is no user {follower_id} or no user {followee_id}.")
        was = self._edges.get((follower_id, followee_id), Edge(follower_id, followee_id, False, 0))
        # Without a pending request no key is bound: the request may come later.
        nothing_to_approve = change == "approve" and not was.following and not was.pending
        if nothing_to_approve or self._claims.claim(caller, key, f"{change}-{follower_id}-{followee_id}"):
            following = {
                "follow": was.following or not self._users[followee_id].protected, "approve": was.following or was.pending,
                "refuse": was.following, "unfollow": False,
            }[change]
            edge = replace(was, following=following, pending=change == "follow" and not following)
        else:
            edge, following = was, was.following
        if edge != was:
            edge = replace(edge, version=edge.version + 1)
            self._edges[follower_id, followee_id] = edge
            self._index_edge(edge)
        is_request = was.pending or edge.pending or change in ("approve", "refuse")
        if was.following or following or not is_request:  # a request changes no list, so it needs no event
            self.add_event(events.new_follow(follower_id, followee_id, following, edge.version, trace))
        return edge

    def _index_edge(self, edge: Edge) -> None:
        if edge.following:
            self._out[edge.follower_id].add(edge.followee_id)
            self._in[edge.followee_id].add(edge.follower_id)
        else:
            self._out[edge.follower_id].discard(edge.followee_id)
            self._in[edge.followee_id].discard(edge.follower_id)

    async def edge(self, follower_id: int, followee_id: int) -> Edge:
        return self._edges.get((follower_id, followee_id), Edge(follower_id, followee_id, False, 0))

    async def requests(self, user_id: int, after: int, limit: int) -> list[int]:
        pending = sorted(edge.follower_id for edge in self._edges.values() if edge.pending and edge.followee_id == user_id)
        return [follower for follower in pending if follower > after][:limit]

    async def follows(self, follower_id: int, followee_ids: Sequence[int]) -> set[int]:
        return self._out[follower_id].intersection(followee_ids)

    async def followers(self, user_id: int, after: int, limit: int) -> list[int]:
        return sorted(follower for follower in self._in[user_id] if follower > after)[:limit]

    async def following(self, user_id: int, after: int, limit: int) -> list[int]:
        return sorted(followee for followee in self._out[user_id] if followee > after)[:limit]

    async def audience(self, user_id: int) -> int:
        return len(self._in[user_id])

    # ---- modes ---------------------------------------------------------------------------------------

    async def modes(self) -> list[AuthorMode]:
        return [self._modes[author] for author in sorted(self._modes) if self._modes[author].pulled_once]

    async def mode(self, author_id: int) -> AuthorMode | None:
        mode = self._modes.get(author_id)
        return mode if mode and mode.pulled_once else None

    async def set_mode(self, author_id: int, mode: Mode, since_id: int) -> AuthorMode:
        current = self._modes.get(author_id)
        if current is None or current.mode is not mode:
            pulled_once = mode is Mode.PULL or (current is not None and current.pulled_once)
            current = AuthorMode(author_id, mode, since_id, self._clock.wall_ms(), pulled_once)
            self._modes[author_id] = current
        return current

    # ---- outbox --------------------------------------------------------------------------------------

    def add_event(self, event: Event) -> None:
        """Append an event to the outbox."""
        self._outbox.append(event)
        self._woken.set()

    async def drain_outbox(self, limit: int, publish: Publish) -> int:
        async with self._draining:
            rows = self._outbox[:limit]
            if rows:
                await publish(rows)
            del self._outbox[: len(rows)]
            return len(rows)

    async def outbox_wakeups(self) -> AsyncIterator[None]:
        while True:
            yield None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), WAKE_EVERY_S)
            self._woken.clear()

    # ---- in bulk -------------------------------------------------------------------------------------

    async def bulk_load(
        self, users: Iterable[User], follower_ids: NDArray[np.int64], followee_ids: NDArray[np.int64]
    ) -> None:
        """Write seeded users and edges, with counters and without outbox rows."""
        self._privacy += 1
        for user in users:
            self._add(user)
        for follower, followee in zip(follower_ids.tolist(), followee_ids.tolist(), strict=True):
            self._edges[follower, followee] = Edge(follower, followee, True, 1)
            self._index_edge(self._edges[follower, followee])

    async def all_edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (follower ids, followee ids) of all current follows, ordered by both."""
        import numpy as np

        pairs = sorted(pair for pair, edge in self._edges.items() if edge.following)
        both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1]


@dataclass
class _Number:
    holder: str = ""
    expires_ns: int = -1
    floor_ms: int = 0
    ceiling_ms: int = 0


class MemoryLeases(Memory):
    """`LeaseStore` in a list of 1,024 numbers. `clock` is the clock of both the database and the holder."""

    def __init__(self, clock: clocks.Clock | None = None) -> None:
        self._clock = clock or clocks.SystemClock()
        self._numbers = [_Number() for _ in range(ids.MAX_WORKER + 1)]

    def _reset(self) -> None:
        # Takes all numbers from their holders. Ceilings stay, so ids stay unique.
        for number in self._numbers:
            number.holder, number.expires_ns = "", self._clock.monotonic_ns()

    async def acquire(self, holder: str, ttl_s: float) -> Lease:
        now_ns = self._clock.monotonic_ns()
        free = [(number.expires_ns, worker) for worker, number in enumerate(self._numbers) if number.expires_ns < now_ns]
        if not free:
            raise Overloaded(f"All {ids.MAX_WORKER + 1} worker numbers are held; stop an instance or wait.", retry_after_s=ttl_s)
        worker = min(free)[1]
        number = self._numbers[worker]
        number.holder, number.floor_ms, number.ceiling_ms = holder, number.ceiling_ms, number.ceiling_ms + 1
        return self._extend(worker, ttl_s)

    async def renew(self, holder: str, lease: Lease, ttl_s: float) -> Lease:
        if not self._holds(holder, lease):
            raise Conflict(f"Worker number {lease.worker} is no longer {holder}'s; acquire another one.")
        return self._extend(lease.worker, ttl_s)

    async def release(self, holder: str, lease: Lease) -> None:
        if self._holds(holder, lease):
            number = self._numbers[lease.worker]
            number.holder, number.expires_ns = "", self._clock.monotonic_ns()

    def _holds(self, holder: str, lease: Lease) -> bool:
        number = self._numbers[lease.worker]
        return number.holder == holder and number.floor_ms == lease.floor_ms

    def _extend(self, worker: int, ttl_s: float) -> Lease:
        number = self._numbers[worker]
        now_ns = self._clock.monotonic_ns()
        number.expires_ns = now_ns + int(ttl_s * 1e9)
        number.ceiling_ms = max(number.ceiling_ms, self._clock.wall_ms() + int(ttl_s * 1000) + CEILING_ALLOWANCE_MS)
        return Lease(worker, number.floor_ms, number.ceiling_ms, number.expires_ns)
