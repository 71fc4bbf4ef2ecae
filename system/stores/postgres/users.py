"""The user directory on PostgreSQL: users, follow edges, author modes and their outbox.

Schema: `postgres/schema.sql`.

Each change is one statement, so one transaction and one round trip. `NOTIFY` wakes the relay for events of
edges.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from system.kernel.errors import Conflict, NotFound, WrongInput
from system.kernel.events import Event
from system.ports import AuthorMode, Edge, Mode, ProtectedUsers, Publish, User
from system.stores.postgres import pool as pools
from system.stores.postgres.outbox_notify import CHANNEL, OutboxWriter
from system.stores.postgres.pool import Connection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WAKE_EVERY_S = 1.0
DRAIN_S = 15.0  # longest time that a drain may lock its rows, publishing included
# Tables that a reset keeps: the version of the protected users and the ceilings of worker numbers only grow,
# and the collector's lease belongs to a running process. None of them holds data of a user or a tweet.
KEPT = ("media_collector", "privacy", "worker_leases")

_USER: LiteralString = "u.id, u.username, u.name, u.created_ms, u.protected, c.followers, c.following"
_MODE: LiteralString = "author_id, mode, since_id, changed_ms, pulled_once"
_TABLES: LiteralString = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
_DRAIN: LiteralString = """DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT %s FOR UPDATE SKIP LOCKED)
            RETURNING seq, topic, key, event_id, payload, trace"""


class PostgresUsers(OutboxWriter):
    """`UserDirectory` in one database.

    Every error of a change says whether the change certainly did not happen.
    """

    pool_size = 8  # ten processes stay below PostgreSQL's default of 100
    probe = "SELECT 1 FROM outbox LIMIT 1"
    # All tables except the leases, which running services hold.
    clear_statement = ("TRUNCATE users, counters, follows, author_modes, outbox RESTART IDENTITY; "
                       "UPDATE privacy SET version = version + 1")
    clear_timeout_s = 60

    # ---- users ---------------------------------------------------------------------------------------

    async def create(self, username: str, name: str, password_hash: str, key: str = "") -> User:
        values = (username, name, password_hash, key)
        statement: LiteralString = "SELECT * FROM create_user(%s, %s, %s, %s)"
        try:
            (row,) = await self._rows(statement, values, "create the user")
        except Conflict:
            (row,) = await self._retry_create(statement, values)
        if row[1].lower() != username.lower():
            raise Conflict(f"The idempotency key {key!r} was used for another sign-up; use another key for {username!r}.")
        return User(row[0], row[1], row[2], row[3])

    async def _retry_create(self, statement: LiteralString, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
        # Of two concurrent sign-ups with the same key, the loser may conflict on the name first. The retry
        # finds the key.
        username, key = values[0], values[3]
        if key:
            with contextlib.suppress(Conflict):
                return await self._rows(statement, values, "create the user")
        raise Conflict(f"The name {username!r} is taken; choose another one.")

    async def by_id(self, user_ids: Sequence[int]) -> dict[int, User]:
        statement: LiteralString = f"SELECT {_USER} FROM users u JOIN counters c ON c.user_id = u.id WHERE u.id = ANY(%s)"
        rows = await self._rows(statement, (list(user_ids),), "read users")
        return {row[0]: _user(row) for row in rows}

    async def by_name(self, username: str) -> User | None:
        statement: LiteralString = (
            f"SELECT {_USER}, u.password_hash FROM users u JOIN counters c ON c.user_id = u.id "
            "WHERE lower(u.username) = lower(%s)"
        )
        rows = await self._rows(statement, (username,), "read the user")
        return _user(rows[0]) if rows else None

    async def ids_of(self, usernames: Sequence[str]) -> dict[str, int]:
        statement: LiteralString = "SELECT lower(username), id FROM users WHERE lower(username) = ANY(%s)"
        return {row[0]: row[1] for row in await self._rows(statement, (list(usernames),), "find users by name")}

    async def set_profile(self, user_id: int, name: str | None = None, protected: bool | None = None) -> User:
        statement: LiteralString = "SELECT set_profile(%s, %s, %s)"
        ((changed,),) = await self._rows(statement, (user_id, name, protected), "change the profile")
        if not changed:
            raise NotFound(f"Could not find user with id: [{user_id}].")
        return (await self.by_id([user_id]))[user_id]

    async def protected_users(self, known: int = -1) -> ProtectedUsers | None:
        # One statement reads one snapshot, so the version matches the users.
        statement: LiteralString = (
            "SELECT version, ARRAY(SELECT id FROM users WHERE protected) FROM privacy WHERE version <> %s"
        )
        rows = await self._rows(statement, (known,), "read protected users")
        return ProtectedUsers(rows[0][0], frozenset(rows[0][1])) if rows else None

    # ---- edges ---------------------------------------------------------------------------------------

    async def follow(self, follower_id: int, followee_id: int, trace: str = "", key: str = "") -> Edge:
        return await self._change_edge(follower_id, followee_id, "follow", trace, follower_id, key)

    async def unfollow(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        return await self._change_edge(follower_id, followee_id, "unfollow", trace)

    async def approve(self, follower_id: int, followee_id: int, trace: str = "", key: str = "") -> Edge:
        return await self._change_edge(follower_id, followee_id, "approve", trace, followee_id, key)

    async def refuse(self, follower_id: int, followee_id: int, trace: str = "") -> Edge:
        return await self._change_edge(follower_id, followee_id, "refuse", trace)

    async def _change_edge(self, follower_id: int, followee_id: int, change: str, trace: str, caller: int = 0,
                           key: str = "") -> Edge:
        if follower_id == followee_id:
            raise WrongInput(f"User {follower_id} cannot follow themselves; name another user.")
        statement: LiteralString = "SELECT * FROM change_edge(%s::bigint, %s::bigint, %s, %s, %s::bigint, %s)"
        ((outcome, following, pending, version),) = await self._rows(
            statement, (follower_id, followee_id, change, trace, caller, key), "change the edge")
        if outcome == "unknown":
            raise NotFound(f"There is no user {follower_id} or no user {followee_id}.")
        if outcome == "other":
            raise key_conflict(key)
        self._waker.wake()
        return Edge(follower_id, followee_id, following, version, pending)

    async def edge(self, follower_id: int, followee_id: int) -> Edge:
        statement: LiteralString = (
            "SELECT following, version, pending FROM follows WHERE follower_id = %s AND followee_id = %s"
        )
        rows = await self._rows(statement, (follower_id, followee_id), "read the edge")
        return Edge(follower_id, followee_id, *rows[0]) if rows else Edge(follower_id, followee_id, False, 0)

    async def requests(self, user_id: int, after: int, limit: int) -> list[int]:
        statement: LiteralString = (
            "SELECT follower_id FROM follows WHERE pending AND followee_id = %s AND follower_id > %s "
            "ORDER BY follower_id LIMIT %s"
        )
        return [row[0] for row in await self._rows(statement, (user_id, after, limit), "read the requests")]

    async def follows(self, follower_id: int, followee_ids: Sequence[int]) -> set[int]:
        statement: LiteralString = (
            "SELECT followee_id FROM follows WHERE following AND follower_id = %s AND followee_id = ANY(%s)"
        )
        return {row[0] for row in await self._rows(statement, (follower_id, list(followee_ids)), "read followings")}

    async def followers(self, user_id: int, after: int, limit: int) -> list[int]:
        statement: LiteralString = (
            "SELECT follower_id FROM follows WHERE following AND followee_id = %s AND follower_id > %s "
            "ORDER BY follower_id LIMIT %s"
        )
        return [row[0] for row in await self._rows(statement, (user_id, after, limit), "read followers")]

    async def following(self, user_id: int, after: int, limit: int) -> list[int]:
        statement: LiteralString = (
            "SELECT followee_id FROM follows WHERE following AND follower_id = %s AND followee_id > %s "
            "ORDER BY followee_id LIMIT %s"
        )
        return [row[0] for row in await self._rows(statement, (user_id, after, limit), "read followings")]

    async def audience(self, user_id: int) -> int:
        rows = await self._rows("SELECT followers FROM counters WHERE user_id = %s", (user_id,), "read the audience")
        return int(rows[0][0]) if rows else 0

    # ---- modes ---------------------------------------------------------------------------------------

    async def modes(self) -> list[AuthorMode]:
        statement: LiteralString = f"SELECT {_MODE} FROM author_modes WHERE pulled_once ORDER BY author_id"
        return [_mode(row) for row in await self._rows(statement, (), "read modes")]

    async def mode(self, author_id: int) -> AuthorMode | None:
        statement: LiteralString = f"SELECT {_MODE} FROM author_modes WHERE pulled_once AND author_id = %s"
        rows = await self._rows(statement, (author_id,), "read the mode")
        return _mode(rows[0]) if rows else None

    async def set_mode(self, author_id: int, mode: Mode, since_id: int) -> AuthorMode:
        statement: LiteralString = f"SELECT {_MODE} FROM set_mode(%s, %s, %s)"
        (row,) = await self._rows(statement, (author_id, mode.value, since_id), "change the mode")
        return _mode(row)

    # ---- outbox --------------------------------------------------------------------------------------

    async def drain_outbox(self, limit: int, publish: Publish) -> int:
        async def work(connection: Connection) -> int:
            async with connection.transaction():
                rows = await (await connection.execute(_DRAIN, (limit,))).fetchall()
                if rows:
                    rows.sort()
                    await publish([Event(*row[1:]) for row in rows])
                return len(rows)

        return await self._pool.run(work, "drain the outbox", deadline_s=DRAIN_S)

    async def outbox_wakeups(self) -> AsyncIterator[None]:
        while True:
            try:
                connection = await pools.connect(self._pool.url, self._pool.deadline_s)
            except (psycopg.Error, OSError, TimeoutError):
                await asyncio.sleep(WAKE_EVERY_S)
                yield None
                continue
            async with contextlib.aclosing(_listen(connection)) as wakeups:
                async for _ in wakeups:
                    yield None

    # ---- in bulk -------------------------------------------------------------------------------------

    async def bulk_load(
        self, users: Iterable[User], follower_ids: NDArray[np.int64], followee_ids: NDArray[np.int64]
    ) -> None:
        """Write seeded users (with ids), edges (parallel arrays, each once) and counters into empty tables.

        No outbox rows. Raises StoreUnavailable; after an error nothing is written.
        """
        from system.stores.postgres import bulk as postgres_bulk

        def work(connection: Connection) -> Awaitable[None]:
            return postgres_bulk.load(connection, list(users), follower_ids, followee_ids)

        await self._pool.run(work, "load users and edges", deadline_s=600)

    async def row_counts(self) -> dict[str, int]:
        """Return the number of rows in each table of the database, without the tables in `KEPT`.

        For the check after a reset.

        The tables are read from PostgreSQL's catalog, so a table that is added later is included.
        """
        async def work(connection: Connection) -> dict[str, int]:
            names = await (await connection.execute(_TABLES)).fetchall()
            tables = [name for name, in names if name not in KEPT]
            counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
            [row] = await (await connection.execute(f"SELECT {counts}".encode())).fetchall()
            return dict(zip(tables, row, strict=True))

        return await self._pool.run(work, "count the rows of its tables", deadline_s=120)

    async def all_edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (follower ids, followee ids) of all current follows, ordered by both. For checkers."""
        from system.stores.postgres import bulk as postgres_bulk

        return await self._pool.run(postgres_bulk.edges, "read all edges", deadline_s=120)


async def _listen(connection: Connection) -> AsyncGenerator[None]:
    # Ends when the connection does.
    try:
        await connection.execute(f"LISTEN {CHANNEL}".encode())
        yield None
        while True:
            async for _ in connection.notifies(timeout=WAKE_EVERY_S, stop_after=1):
                pass
            yield None
    except psycopg.Error:
        return
    finally:
        await connection.close()


def key_conflict(key: str) -> Conflict:
    """Return the error for an idempotency key that was used for another request."""
    problem = Conflict(f"The Idempotency-Key {key[:40]!r} was used for another request; use a new key.")
    problem.status = 422
    return problem


def _user(row: tuple[Any, ...]) -> User:
    user_id, username, name, created_ms, protected, followers, following, *rest = row
    return User(user_id, username, name, created_ms, followers, following, str(rest[0]) if rest else "", protected)


def _mode(row: tuple[Any, ...]) -> AuthorMode:
    author_id, mode, since_id, changed_ms, pulled_once = row
    return AuthorMode(author_id, Mode(mode), since_id, changed_ms, pulled_once)
