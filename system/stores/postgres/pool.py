"""Connections to PostgreSQL for asyncio: a commit is never cancelled, and every error says whether it happened.

Why not a ready-made pool. (1) psycopg answers an asyncio timeout by sending the server a *cancel*; that ends the wait for
the synchronous standby, and a commit would count as done that only the primary has. Here the work runs in a task of its
own; a deadline or a cancelled caller never reaches it: at the deadline the socket is shut, and the server finishes (or not)
by itself. (2) A connection that died while idle must be found before a statement goes into it, since afterwards nobody
knows whether it was executed. (3) After a failover every connect is a fresh try, without growing pauses.

A URL may name several members of one PostgreSQL; of them only the primary is connected to (`target_session_attrs`). A
connection to a member that was demoted, or that answers no more, is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, pq
from psycopg import errors as pg

from system.kernel.errors import Conflict, LabError, StoreUnavailable, WrongInput
from system.kernel.policies import Policies
from system.kernel.resilience.guard import Guard

T = TypeVar("T")
Connection = AsyncConnection[tuple[Any, ...]]
ATTEMPT_S = 1.0  # at least, for one of several members: a frozen one must leave time to ask the next
SET_UP_S = 30.0  # to connect for making or dropping a database: while a cluster starts, its primary may be slow to answer
CUTS = 2  # calls in a row that got no answer in time, after which the idle connections are taken to lead nowhere either

# Whether the operation certainly did not happen, by the first two characters of the SQLSTATE. The server reports an
# error of a statement before it commits, so most are definite; where the session itself ends, the commit may stand.
STATES: dict[str, bool] = {
    "00": False, "01": False, "02": True, "03": True, "08": False, "09": True, "0A": True, "0B": True, "0F": True,
    "0L": True, "0P": True, "0Z": True, "10": True, "20": True, "21": True, "22": True, "23": True, "24": True, "25": True,
    "26": True, "27": True, "28": True, "2B": True, "2D": True, "2F": True, "34": True, "38": True, "39": True,
    "3B": True, "3D": True, "3F": True, "40": True, "42": True, "44": True, "53": True, "54": True, "55": True,
    "57": False, "58": False, "72": True, "F0": True, "HV": True, "P0": True, "XX": False,
}  # fmt: skip
EXACT: dict[str, bool] = {
    "40003": False,  # statement_completion_unknown
    "57P03": True,  # cannot_connect_now: the server still starts
}
READ_ONLY = "25006"  # read_only_sql_transaction: the member is a standby, or became one
# Errors that the driver raises by itself, without a SQLSTATE. The nearest base holds.
KINDS: dict[type[BaseException], bool] = {
    psycopg.Warning: False,
    psycopg.Error: False,
    psycopg.OperationalError: False,  # the connection broke under the statement
    psycopg.InterfaceError: True,  # used wrongly, or closed before anything was sent
    psycopg.DatabaseError: False,
    psycopg.DataError: True,  # a value that cannot be sent
    psycopg.IntegrityError: True,
    psycopg.InternalError: False,
    psycopg.ProgrammingError: True,
    psycopg.NotSupportedError: True,
    pg.ConnectionTimeout: True,
    pg.CancellationTimeout: False,
    pg.PipelineAborted: True,
    psycopg.Rollback: True,
}


UNFIT = ("22", "23")  # classes of SQLSTATE: a value that its column, or a rule of its table, does not take
TAKEN = "23505"  # unique_violation


def is_definite(error: BaseException) -> bool:
    """Return whether the statement that failed with `error` certainly left nothing behind."""
    state = getattr(error, "sqlstate", None)
    if state:
        return EXACT.get(state, STATES.get(state[:2], False))
    return next((KINDS[base] for base in type(error).__mro__ if base in KINDS), False)


def mapped(error: BaseException, doing: str, definite: bool | None = None) -> LabError:
    """Return `error` as ours: Conflict where the value stands already, WrongInput for one that cannot be, else StoreUnavailable.

    `definite` overrides what the error itself says (nothing was sent yet).
    """
    if isinstance(error, LabError):
        return error
    state = getattr(error, "sqlstate", None) or ""
    if state[:2] in UNFIT or (isinstance(error, psycopg.DataError) and not state):
        kind = Conflict if state == TAKEN else WrongInput
        return kind(f"PostgreSQL refused to {doing} ({type(error).__name__}: {' '.join(str(error).split())[:300]}).")
    sure = is_definite(error) if definite is None else definite
    happened = "nothing was done" if sure else "it may have been done"
    text = " ".join(str(error).split())[:300]
    return StoreUnavailable(f"PostgreSQL did not {doing} ({type(error).__name__}: {text}); {happened}.", definite=sure)


class Seat:
    """One connection with what happened to it.

    `cut`: our deadline shut it. `warned`: a commit was not replicated. `left`: it leads to a standby.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.cut = self.left = False
        self.warned = ""
        connection.add_notice_handler(self._notice)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        # 01000 on a commit: "committed locally, but might not have been replicated".
        if notice.sqlstate == "01000":
            self.warned = notice.message_primary or "warning 01000"

    def shut(self) -> None:
        """Shut the socket under the connection: no cancel is sent, and whoever waits on it gets an end of file."""
        self.cut = True
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.connection.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)

    def usable(self) -> bool:
        """True while idle, outside a transaction, and with nothing to read: a dead peer leaves an end of file."""
        if self.cut or self.left or self.connection.closed:
            return False
        if self.connection.info.transaction_status != pq.TransactionStatus.IDLE:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        return not poll.poll(0)


class Pool:
    """Up to `size` connections to one database. Nothing connects before the first use."""

    def __init__(self, url: str, *, size: int, knobs: Policies) -> None:
        self.url = url
        self._guard = Guard("postgres", knobs, size)
        self.deadline_s = self._guard.limit_s
        self._idle: list[Seat] = []
        self._cuts = 0
        self._running: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Wait for what runs (each within its deadline), then close all connections. Safe to repeat."""
        if self._running:
            await asyncio.wait(self._running)
        while self._idle:
            await self._idle.pop().connection.close()

    async def run(self, work: Callable[[Connection], Awaitable[T]], doing: str, deadline_s: float | None = None) -> T:
        """Return `work(connection)`; the connection commits each statement unless `work` opens a transaction.

        A caller that is cancelled does not stop it. Raises what `mapped` returns; definite where nothing was sent or the server
        refused, else the outcome is unknown: past the deadline, a lost connection, a commit that was not replicated.
        """
        limit_s = self.deadline_s if deadline_s is None else deadline_s
        task = asyncio.get_running_loop().create_task(self._run(work, doing, limit_s))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen here, should the caller be gone

    async def _run(self, work: Callable[[Connection], Awaitable[T]], doing: str, limit_s: float) -> T:
        end = time.monotonic() + limit_s

        async def seated() -> T:
            seat = await self._seat(doing, end)
            try:
                return await self._work(seat, work, doing, end, limit_s)
            finally:
                await self._back(seat)

        return await self._guard.run(seated, limit_s)

    async def _work(
        self, seat: Seat, work: Callable[[Connection], Awaitable[T]], doing: str, end: float, limit_s: float
    ) -> T:
        seat.warned = ""
        watch = asyncio.get_running_loop().call_later(max(end - time.monotonic(), 0.001), seat.shut)
        try:
            result = await work(seat.connection)
        except psycopg.Error as error:
            if seat.cut:
                self._cuts += 1
                raise StoreUnavailable(
                    f"PostgreSQL did not {doing} within {limit_s} s; the connection was closed and it may have been done.",
                    definite=False,
                ) from error
            seat.left = error.sqlstate == READ_ONLY
            raise mapped(error, doing) from error
        finally:
            watch.cancel()
        self._cuts = 0
        if seat.warned:
            raise StoreUnavailable(f"PostgreSQL did {doing} but may lose it ({seat.warned}).", definite=False)
        return result

    async def _seat(self, doing: str, end: float) -> Seat:
        while self._idle:
            seat = self._idle.pop()
            if seat.usable():
                return seat
            await seat.connection.close()
        try:
            return Seat(await connect(self.url, max(end - time.monotonic(), 0.001)))
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise mapped(error, f"take a connection to {doing}", definite=True) from error

    async def _back(self, seat: Seat) -> None:
        if seat.usable():
            self._idle.append(seat)
        else:
            await seat.connection.close()
            if seat.left or self._cuts >= CUTS:
                await self._leave_idle()

    async def _leave_idle(self) -> None:
        """Close all idle connections, where the next may lead to another member."""
        while len(members(self.url)) > 1 and self._idle:
            await self._idle.pop().connection.close()


_primaries: dict[str, str] = {}  # URL -> the member that took its last connection, which is tried first


async def connect(url: str, timeout_s: float) -> Connection:
    """Return a new connection that commits each statement by itself; of several members to the one that the URL targets."""
    addresses = members(url)
    async with asyncio.timeout(timeout_s):
        if len(addresses) == 1:
            return await AsyncConnection.connect(url, autocommit=True)
        refusals = []
        attempt_s = max(ATTEMPT_S, timeout_s / (len(addresses) + 1))
        for address in sorted(addresses, key=lambda each: each != _primaries.get(url)):
            try:
                async with asyncio.timeout(attempt_s):
                    connection = await AsyncConnection.connect(member_url(url, address), autocommit=True)
            except (psycopg.OperationalError, OSError, TimeoutError) as error:
                refusals.append(f"{address}: {type(error).__name__} {' '.join(str(error).split())[:100]}")
                continue
            _primaries[url] = address
            return connection
    raise psycopg.OperationalError("; ".join(refusals))


def members(url: str) -> list[str]:
    """Return `host:port` of each member that `url` names."""
    return url.partition("://")[2].partition("?")[0].partition("/")[0].rpartition("@")[2].split(",")


def member_url(url: str, address: str, whatever: bool = False) -> str:
    """Return `url` for the one member at `address`; with `whatever` no matter whether it is the primary."""
    head, _, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    place, slash, database = rest.partition("/")
    user, at, _ = place.rpartition("@")
    return f"{scheme}://{user}{at}{address}{slash}{database}" + (f"?{query}" if query and not whatever else "")


def database_url(url: str, database: str) -> str:
    """Return `url` (postgresql://user@host:port[,host:port...][/...][?...], a database name is replaced) for `database`."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    return f"{scheme}://{place.partition('/')[0]}/{database}" + (f"?{query}" if query else "")


async def create_database(url: str, database: str, schema: str) -> None:
    """Create `database` where it is missing and run `schema` in it. Safe to repeat, and from several processes at once."""
    await _at(database_url(url, "postgres"), lambda connection: _create(connection, database), "create the database")
    await _at(database_url(url, database), lambda connection: _apply(connection, schema), "create the tables")


async def drop_database(url: str, database: str) -> None:
    """Remove `database`, closing other connections to it."""
    statement = f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'
    await _at(database_url(url, "postgres"), lambda connection: connection.execute(statement.encode()), "drop the database")


async def _at(url: str, work: Callable[[Connection], Awaitable[Any]], doing: str) -> None:
    try:
        connection = await connect(url, SET_UP_S)
        try:
            await work(connection)
        finally:
            await connection.close()
    except (psycopg.Error, OSError, TimeoutError) as error:
        raise mapped(error, doing) from error


async def _create(connection: Connection, database: str) -> None:
    rows = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
    if await rows.fetchone() is None:
        with contextlib.suppress(pg.DuplicateDatabase, pg.UniqueViolation):
            await connection.execute(f'CREATE DATABASE "{database}"'.encode())


async def _apply(connection: Connection, schema: str) -> None:
    # One at a time: two CREATE OR REPLACE of a function at once fail with "tuple concurrently updated".
    await connection.execute("SELECT pg_advisory_lock(7410)")
    await connection.execute(schema.encode())
