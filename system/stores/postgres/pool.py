"""A PostgreSQL pool for asyncio: it never cancels a commit, and every error says whether the work happened.

Why not an existing pool:

1. psycopg reacts to an asyncio timeout by sending a *cancel* to the server. A cancel ends the wait for the
   synchronous standby, so a commit that exists only on the primary would count as done. Here the work runs in
   its own task, which neither a deadline nor a cancelled caller cancels. At the deadline the socket is shut
   down, and the server completes the work, or not, on its own.
2. A connection that died while idle must be detected before a statement is sent over it, because afterwards
   the outcome is unknown.
3. After a failover, every connect must be a new attempt, without backoff.

A URL may name several members of one PostgreSQL cluster; only the primary is used (`target_session_attrs`). A
connection to a member that was demoted, or that no longer responds, is closed.
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
# Minimum time for one connection attempt if the URL names several members. An attempt gets only a part of the
# total timeout, so that an unresponsive member leaves time to try the next.
ATTEMPT_S = 1.0
# Timeout of the connection that creates or drops a database: while a cluster starts, its primary may be slow.
SET_UP_S = 30.0
MAX_TIMEOUTS = 2  # consecutive timeouts of calls after which the idle connections are assumed to be dead too

# Whether an error is definite (the operation certainly did not happen), by the class of its SQLSTATE: the
# first two characters. The server reports the error of a statement before it commits, so most are definite.
# If the session itself ends, the commit may have happened.
DEFINITE_BY_CLASS: dict[str, bool] = {
    "00": False, "01": False, "02": True, "03": True, "08": False, "09": True, "0A": True, "0B": True, "0F": True,
    "0L": True, "0P": True, "0Z": True, "10": True, "20": True, "21": True, "22": True, "23": True, "24": True, "25": True,
    "26": True, "27": True, "28": True, "2B": True, "2D": True, "2F": True, "34": True, "38": True, "39": True,
    "3B": True, "3D": True, "3F": True, "40": True, "42": True, "44": True, "53": True, "54": True, "55": True,
    "57": False, "58": False, "72": True, "F0": True, "HV": True, "P0": True, "XX": False,
}  # fmt: skip
DEFINITE_BY_STATE: dict[str, bool] = {
    "40003": False,  # statement_completion_unknown
    "57P03": True,  # cannot_connect_now: the server is still starting
}
READ_ONLY = "25006"  # read_only_sql_transaction: the member is a standby, or became one
# The same for errors that the driver raises itself, without a SQLSTATE. The entry of the nearest base class
# applies.
DEFINITE_BY_TYPE: dict[type[BaseException], bool] = {
    psycopg.Warning: False,
    psycopg.Error: False,
    psycopg.OperationalError: False,  # the connection broke during the statement
    psycopg.InterfaceError: True,  # wrong use of the driver, or closed before anything was sent
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


INVALID_VALUE = ("22", "23")  # SQLSTATE classes: a column or a constraint rejects the value
UNIQUE_VIOLATION = "23505"


def is_definite(error: BaseException) -> bool:
    """Return whether the statement that failed with `error` certainly had no effect."""
    state = getattr(error, "sqlstate", None)
    if state:
        return DEFINITE_BY_STATE.get(state, DEFINITE_BY_CLASS.get(state[:2], False))
    return next((DEFINITE_BY_TYPE[base] for base in type(error).__mro__ if base in DEFINITE_BY_TYPE), False)


def mapped(error: BaseException, doing: str, definite: bool | None = None) -> LabError:
    """Map an error to Conflict (value exists), WrongInput (invalid value) or StoreUnavailable.

    `doing`: what failed, as an infinitive without "to", for the message. `definite`: overrides `is_definite`,
    for example True if nothing was sent yet; None does not.
    """
    if isinstance(error, LabError):
        return error
    state = getattr(error, "sqlstate", None) or ""
    if state[:2] in INVALID_VALUE or (isinstance(error, psycopg.DataError) and not state):
        kind = Conflict if state == UNIQUE_VIOLATION else WrongInput
        return kind(f"PostgreSQL refused to {doing} ({type(error).__name__}: {' '.join(str(error).split())[:300]}).")
    if definite is None:
        definite = is_definite(error)
    outcome = "nothing was done" if definite else "it may have been done"
    text = " ".join(str(error).split())[:300]
    return StoreUnavailable(f"PostgreSQL did not {doing} ({type(error).__name__}: {text}); {outcome}.", definite=definite)


class PooledConnection:
    """One connection with its state.

    `timed_out`: the pool shut it down at a deadline. `warning`: not empty if a commit may not have been
    replicated. `read_only`: its server is a standby.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.timed_out = self.read_only = False
        self.warning = ""
        connection.add_notice_handler(self._notice)

    def _notice(self, notice: psycopg.errors.Diagnostic) -> None:
        # 01000 on a commit: "committed locally, but might not have been replicated".
        if notice.sqlstate == "01000":
            self.warning = notice.message_primary or "warning 01000"

    def shut_down(self) -> None:
        """Shut down the socket. No cancel is sent to the server; a pending read gets an EOF."""
        self.timed_out = True
        with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)

    def usable(self) -> bool:
        """Return whether it can be used again: idle, outside a transaction, nothing to read.

        If the peer died, there is an EOF to read.
        """
        if self.timed_out or self.read_only or self.connection.closed:
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
        self._idle: list[PooledConnection] = []
        self._timeouts = 0  # consecutive
        self._running: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Wait for running work (each within its deadline), then close all connections. Safe to repeat."""
        if self._running:
            await asyncio.wait(self._running)
        while self._idle:
            await self._idle.pop().connection.close()

    async def run(self, work: Callable[[Connection], Awaitable[T]], doing: str, deadline_s: float | None = None) -> T:
        """Return the result of `work(connection)`. Each statement commits unless `work` opens a transaction.

        `doing`: as for `mapped`. `deadline_s`: seconds for waiting, connecting and the work; None is the
        timeout of the policies. Cancelling the caller does not stop the work.

        Raises what `mapped` returns. The error is definite if nothing was sent or the server refused. Else
        the outcome is unknown: the deadline passed, the connection was lost, or the commit may not have been
        replicated.
        """
        limit_s = self.deadline_s if deadline_s is None else deadline_s
        task = asyncio.get_running_loop().create_task(self._run(work, doing, limit_s))
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here in case the caller was cancelled

    async def _run(self, work: Callable[[Connection], Awaitable[T]], doing: str, limit_s: float) -> T:
        end = time.monotonic() + limit_s

        async def with_connection() -> T:
            pooled = await self._acquire(doing, end)
            try:
                return await self._work(pooled, work, doing, end, limit_s)
            finally:
                await self._release(pooled)

        return await self._guard.run(with_connection, limit_s)

    async def _work(
        self, pooled: PooledConnection, work: Callable[[Connection], Awaitable[T]], doing: str, end: float, limit_s: float
    ) -> T:
        pooled.warning = ""
        deadline = asyncio.get_running_loop().call_later(max(end - time.monotonic(), 0.001), pooled.shut_down)
        try:
            result = await work(pooled.connection)
        except psycopg.Error as error:
            if pooled.timed_out:
                self._timeouts += 1
                raise StoreUnavailable(
                    f"PostgreSQL did not {doing} within {limit_s} s; the connection was closed and it may have been done.",
                    definite=False,
                ) from error
            pooled.read_only = error.sqlstate == READ_ONLY
            raise mapped(error, doing) from error
        finally:
            deadline.cancel()
        self._timeouts = 0
        if pooled.warning:
            raise StoreUnavailable(f"PostgreSQL did {doing} but may lose it ({pooled.warning}).", definite=False)
        return result

    async def _acquire(self, doing: str, end: float) -> PooledConnection:
        while self._idle:
            pooled = self._idle.pop()
            if pooled.usable():
                return pooled
            await pooled.connection.close()
        try:
            return PooledConnection(await connect(self.url, max(end - time.monotonic(), 0.001)))
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise mapped(error, f"open a connection to {doing}", definite=True) from error

    async def _release(self, pooled: PooledConnection) -> None:
        if pooled.usable():
            self._idle.append(pooled)
        else:
            await pooled.connection.close()
            if pooled.read_only or self._timeouts >= MAX_TIMEOUTS:
                await self._close_idle()

    async def _close_idle(self) -> None:
        """Close all idle connections if a new one may reach another member."""
        while len(members(self.url)) > 1 and self._idle:
            await self._idle.pop().connection.close()


_primaries: dict[str, str] = {}  # URL -> the member that accepted its last connection, which is tried first


async def connect(url: str, timeout_s: float) -> Connection:
    """Return a new connection in autocommit mode.

    If the URL names several members, they are tried one after another, the last known primary first, until
    one matches `target_session_attrs`.
    """
    addresses = members(url)
    async with asyncio.timeout(timeout_s):
        if len(addresses) == 1:
            return await AsyncConnection.connect(url, autocommit=True)
        refusals = []
        attempt_s = max(ATTEMPT_S, timeout_s / (len(addresses) + 1))
        for address in sorted(addresses, key=lambda member: member != _primaries.get(url)):
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
    """Return `url` with `address` as its only member.

    `whatever`: omit the query part, and with it `target_session_attrs`, so that a standby is accepted too.
    """
    head, _, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    authority, slash, database = rest.partition("/")
    user, at, _ = authority.rpartition("@")
    return f"{scheme}://{user}{at}{address}{slash}{database}" + (f"?{query}" if query and not whatever else "")


def database_url(url: str, database: str) -> str:
    """Return `url` (postgresql://user@host:port[,host:port...][/...][?...]) with `database` as its path."""
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    return f"{scheme}://{location.partition('/')[0]}/{database}" + (f"?{query}" if query else "")


async def create_database(url: str, database: str, schema: str) -> None:
    """Create `database` if it is missing, and run `schema` in it.

    Safe to repeat, and to run in several processes concurrently.
    """
    await _run_once(database_url(url, "postgres"), lambda connection: _create(connection, database), "create the database")
    await _run_once(database_url(url, database), lambda connection: _apply(connection, schema), "create the tables")


async def drop_database(url: str, database: str) -> None:
    """Drop `database`, closing other connections to it."""
    statement = f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'
    maintenance_url = database_url(url, "postgres")
    await _run_once(maintenance_url, lambda connection: connection.execute(statement.encode()), "drop the database")


async def _run_once(url: str, work: Callable[[Connection], Awaitable[Any]], doing: str) -> None:
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
    # The lock serializes processes: of two concurrent CREATE OR REPLACE FUNCTION, one fails with "tuple
    # concurrently updated".
    await connection.execute("SELECT pg_advisory_lock(7410)")
    await connection.execute(schema.encode())
