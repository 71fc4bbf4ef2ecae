"""Adapts Cassandra's threaded driver to asyncio, and maps its errors to ours.

The driver resolves its futures in its own thread. The loop is woken once for all results since the last
wake-up, not once per result: under load most results need no wake-up of their own. Statements are prepared
once, in a thread (`prepare` blocks). The bulkhead (`kernel.guard`) keeps concurrent requests below the
driver's number of streams, so the driver never blocks the loop while it waits for one. The driver retries
nothing: callers must know what happened.

Protocol 4, because the driver computes the checksums of protocol 5 bit by bit in Python.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import cassandra
from cassandra import cluster as driver
from cassandra import connection, metadata, pool, protocol, query
from cassandra.io.libevreactor import LibevConnection
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
    WhiteListRoundRobinPolicy,
)
from cassandra.segment import CrcException

from system.kernel.errors import LabError, StoreUnavailable, WrongInput
from system.kernel.policies import Policies
from system.kernel.resilience.guard import Guard

Row = tuple[Any, ...]
T = TypeVar("T")
UNSET = query.UNSET_VALUE  # leaves a column as it is

# Whether the operation certainly did not happen. Looked up along the bases of the error's class; the nearest
# entry applies.
DEFINITE: dict[type[BaseException], bool] = {
    # refused by the coordinator before it wrote anything
    cassandra.Unavailable: True,
    cassandra.RequestValidationException: True,
    cassandra.AuthenticationFailed: True,
    protocol.RequestValidationException: True,
    protocol.IsBootstrappingErrorMessage: True,
    protocol.BadCredentials: True,
    protocol.UnavailableErrorMessage: True,
    # the request was not sent: without retries, "no host" means that no host was available
    driver.NoHostAvailable: True,
    pool.NoConnectionsAvailable: True,
    connection.ConnectionBusy: True,
    connection.ProtocolVersionUnsupported: True,
    cassandra.UnresolvableContactPoints: True,
    cassandra.UnsupportedOperation: True,
    cassandra.DependencyException: True,
    driver.UserTypeDoesNotExist: True,
    metadata.NoMurmur3: True,
    protocol.NotSupportedError: True,
    # sent, and the response is missing, partial or invalid
    cassandra.DriverException: False,
    cassandra.RequestExecutionException: False,
    cassandra.OperationTimedOut: False,
    driver.QueryExhausted: False,
    connection.ConnectionException: False,
    connection.ProtocolError: False,
    protocol.ErrorMessage: False,
    protocol.RequestExecutionException: False,
    protocol.InternalError: False,
    query.TraceUnavailable: False,
    CrcException: False,
}


INVALID_VALUE = (TypeError, ValueError, OverflowError, struct.error)
"""Raised by the driver before it sends anything: a value does not fit its column."""
MISSING = ("does not exist", "unconfigured table", "undefined column")
"""Messages of invalid requests that are about tables not created yet, or dropped."""


def mapped(error: BaseException, doing: str) -> LabError:
    """Map an error of the driver: to WrongInput for an invalid value, else to StoreUnavailable.

    An unknown error class counts as "may have happened".
    """
    if isinstance(error, LabError):
        return error
    if isinstance(error, INVALID_VALUE):
        reason = " ".join(str(error).split())[:300]
        return WrongInput(f"Cassandra got no request to {doing}: a value does not fit its column ({reason}).")
    if isinstance(error, cassandra.InvalidRequest) and not any(text in str(error).lower() for text in MISSING):
        return WrongInput(f"Cassandra refused to {doing}: {' '.join(str(error).split())[:300]}.")
    definite = next((DEFINITE[base] for base in type(error).__mro__ if base in DEFINITE), False)
    text = " ".join(str(error).split())[:300]
    outcome = "nothing was done" if definite else "it may have been done"
    return StoreUnavailable(f"Cassandra did not {doing} ({type(error).__name__}: {text}); {outcome}.", definite=definite)


class Bridge:
    """One session, shared by all tasks of a process. Created by `open`; bound to the loop that opened it."""

    def __init__(self, session: driver.Session, knobs: Policies, deadline_s: float) -> None:
        self.session = session
        self._deadline_s = deadline_s
        self._guard = Guard("cassandra", knobs)
        self._loop = asyncio.get_running_loop()
        self._done: deque[tuple[asyncio.Future[list[Row]], list[Row] | None, BaseException | None]] = deque()
        self._woken = False
        self._prepared: dict[str, query.PreparedStatement] = {}
        self._preparing = asyncio.Lock()

    @classmethod
    async def open(
        cls, addresses: Sequence[str], *, consistency: str, deadline_s: float, knobs: Policies | None = None, alone: bool = False,
        near: bool = False,
    ) -> Bridge:  # fmt: skip
        """Connect to the first of `addresses` (host:port) that answers. Raises StoreUnavailable (definite).

        `alone`: requests go only to these nodes, even if their cluster has others. `near`: requests go to the
        first of them while it is up.
        """
        session = await in_thread("connect", lambda: connect(addresses, consistency, deadline_s, alone, near))
        return cls(session, knobs or Policies(), deadline_s)

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        await asyncio.to_thread(self.session.cluster.shutdown)

    async def prepare(self, cql: str) -> query.PreparedStatement:
        """Return `cql` as a prepared statement; the server prepares it on the first call only."""
        statement = self._prepared.get(cql)
        if statement is None:
            async with self._preparing:
                if cql not in self._prepared:
                    self._prepared[cql] = await in_thread("prepare a statement", lambda: self.session.prepare(cql))
            statement = self._prepared[cql]
        return statement

    def forget_prepared(self) -> None:
        """Prepare statements again from now on, for example after the keyspace is dropped."""
        self._prepared.clear()

    async def run(self, cql: str, values: Sequence[object], doing: str, deadline_s: float | None = None) -> list[Row]:
        """Execute `cql` and return its rows, all in one page: statements here bound their result size.

        Raises StoreUnavailable: definite if the request was not sent or was refused, else the outcome is
        unknown.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        ends_s = time.monotonic() + limit_s
        return await self._guard.run(lambda: self._run(cql, values, doing, ends_s), limit_s)

    async def _run(self, cql: str, values: Sequence[object], doing: str, ends_s: float) -> list[Row]:
        try:
            statement = self._prepared.get(cql) or await self.prepare(cql)
            return await self._send(statement, values, max(ends_s - time.monotonic(), 0.001))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise mapped(error, doing) from error

    def _send(self, statement: query.PreparedStatement, values: Sequence[object], timeout_s: float) -> asyncio.Future[list[Row]]:
        future: asyncio.Future[list[Row]] = self._loop.create_future()
        response = self.session.execute_async(statement, values, timeout=timeout_s)
        response.add_callbacks(
            callback=lambda rows: self._resolved(future, rows or [], None),
            errback=lambda error: self._resolved(future, None, error),
        )
        return future

    def _resolved(self, future: asyncio.Future[list[Row]], rows: list[Row] | None, error: BaseException | None) -> None:
        # Runs in the driver's thread. Reading the flag slightly too early costs one extra wake-up and never
        # loses one: the loop clears the flag before it empties the queue.
        self._done.append((future, rows, error))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: no task waits any more
                self._done.clear()

    def _deliver(self) -> None:
        self._woken = False
        while self._done:
            future, rows, error = self._done.popleft()
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(rows or [])


def paged(cql: str, rows: int) -> query.SimpleStatement:
    """Return `cql` as a statement for a full scan, fetched `rows` rows at a time."""
    return query.SimpleStatement(cql, fetch_size=rows)


_SLOW = ThreadPoolExecutor(max_workers=4, thread_name_prefix="cassandra-slow")


async def in_thread(doing: str, work: Callable[[], T]) -> T:
    """Run blocking `work` of the driver in a thread and map its errors."""
    try:
        return await asyncio.get_running_loop().run_in_executor(_SLOW, work)
    except Exception as error:
        raise mapped(error, doing) from error


class NearFirst(DCAwareRoundRobinPolicy):  # type: ignore[misc]
    """Load balancing policy: one node coordinates every request while it is up, else the others in turn.

    For a cluster of distant nodes with as many replicas as nodes: each node owns each row.
    """

    def __init__(self, near: str) -> None:
        super().__init__()
        self._near = near

    def make_query_plan(self, working_keyspace: str | None = None, query: Any = None) -> Iterator[Any]:
        """Yield the hosts in the order in which to try them."""
        return iter(sorted(super().make_query_plan(working_keyspace, query), key=lambda host: host.address != self._near))


def connect(addresses: Sequence[str], consistency: str, deadline_s: float, alone: bool = False, near: bool = False
            ) -> driver.Session:  # fmt: skip
    """Return a session on the cluster behind `addresses`. Blocks; for use in a separate thread or process.

    `alone`: nodes that are not in `addresses` get no requests. `near`: requests go to the first of
    `addresses` while it is up.
    """
    hosts = [address.rpartition(":")[0] for address in addresses]
    port = int(addresses[0].rpartition(":")[2])
    balanced = TokenAwarePolicy(DCAwareRoundRobinPolicy()) if len(hosts) > 1 else RoundRobinPolicy()
    profile = driver.ExecutionProfile(
        load_balancing_policy=WhiteListRoundRobinPolicy(hosts) if alone else NearFirst(hosts[0]) if near else balanced,
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=cassandra.ConsistencyLevel.name_to_value[consistency],
        serial_consistency_level=cassandra.ConsistencyLevel.name_to_value[
            "LOCAL_SERIAL" if consistency.startswith("LOCAL_") else "SERIAL"
        ],
        request_timeout=deadline_s,
        row_factory=query.tuple_factory,
    )
    cluster = driver.Cluster(
        hosts,
        port=port,
        protocol_version=4,
        connection_class=LibevConnection,
        execution_profiles={driver.EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(0.5, max_attempts=None),
        compression=False,
        connect_timeout=5.0,
        idle_heartbeat_interval=5,
        idle_heartbeat_timeout=5,
        schema_event_refresh_window=0,
    )
    try:
        session = cluster.connect()
    except Exception:
        cluster.shutdown()
        raise
    # The coordinator assigns timestamps: the clock of a service instance must never decide between a write
    # and a delete.
    session.use_client_timestamp = False
    session.default_fetch_size = None
    return session
