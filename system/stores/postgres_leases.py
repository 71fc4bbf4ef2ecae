"""Worker numbers for ids, leased from PostgreSQL by its own clock.

1,024 rows stand from the start. The number that was out of use longest is granted first. A grant raises the row's ceiling
before the holder can issue an id, and starts above the last holder's ceiling; that floor grows with every grant, so it also
names the grant: a holder that slept past his lease and was replaced no longer matches his row.
"""

from __future__ import annotations

import time
from typing import Any, LiteralString, Self

from system.kernel.errors import Conflict, Overloaded
from system.kernel.ids import MAX_WORKER, Lease
from system.kernel.policies import Policies
from system.kernel.settings import Settings
from system.stores import postgres_pool as pools
from system.stores.postgres_pool import Connection, Pool
from system.stores.postgres_users import SCHEMA

_LEASE: LiteralString = "worker, floor_ms, ceiling_ms"


class PostgresLeases:
    """`LeaseStore` in the database of the namespace."""

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        self._server_url = url
        self._database = database
        self._pool = Pool(pools.database_url(url, database), size=2, knobs=knobs)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return a lease store. Connects at first use; tables need `prepare` once."""
        return cls(settings.stores.postgres_url, settings.namespace, settings.policies)

    async def close(self) -> None:
        """Close all connections. Safe to repeat; leases stay as they are."""
        await self._pool.close()

    async def ready(self) -> None:
        """Return where the database answers with its tables; raises StoreUnavailable otherwise."""
        await self._rows("SELECT 1 FROM worker_leases LIMIT 1", (), "answer")

    async def prepare(self) -> None:
        """Create database and tables where they are missing. Safe to repeat, and from several processes at once."""
        await pools.create_database(self._server_url, self._database, SCHEMA.read_text(encoding="utf-8"))

    async def clear(self) -> None:
        """Take all numbers from their holders. Ceilings stay, so ids stay unique."""
        await self._rows("UPDATE worker_leases SET holder = '', expires_at = now() RETURNING worker", (), "clear leases")

    async def drop(self) -> None:
        """Remove the database with all it holds."""
        await self.close()
        await pools.drop_database(self._server_url, self._database)

    async def acquire(self, holder: str, ttl_s: float) -> Lease:
        statement: LiteralString = f"SELECT {_LEASE} FROM lease_acquire(%s, %s)"
        asked_ns = time.monotonic_ns()
        rows = await self._rows(statement, (holder, float(ttl_s)), "grant a worker number")
        if not rows:
            raise Overloaded(f"All {MAX_WORKER + 1} worker numbers are held; stop an instance or wait for a lease to end.",
                             retry_after_s=ttl_s)
        return _lease(rows[0], asked_ns, ttl_s)

    async def renew(self, holder: str, lease: Lease, ttl_s: float) -> Lease:
        statement: LiteralString = f"SELECT {_LEASE} FROM lease_renew(%s, %s, %s::bigint, %s)"
        asked_ns = time.monotonic_ns()
        rows = await self._rows(statement, (lease.worker, holder, lease.floor_ms, float(ttl_s)), "renew the lease")
        if not rows:
            raise Conflict(f"Worker number {lease.worker} is no longer {holder}'s; acquire another one.")
        return _lease(rows[0], asked_ns, ttl_s)

    async def release(self, holder: str, lease: Lease) -> None:
        statement: LiteralString = (
            "UPDATE worker_leases SET holder = '', expires_at = clock_timestamp() "
            "WHERE worker = %s AND holder = %s AND floor_ms = %s RETURNING worker"
        )
        await self._rows(statement, (lease.worker, holder, lease.floor_ms), "give the worker number back")

    async def _rows(self, statement: LiteralString, values: tuple[Any, ...], doing: str) -> list[tuple[Any, ...]]:
        async def work(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(statement, values)).fetchall()

        return await self._pool.run(work, doing)


def _lease(row: tuple[Any, ...], asked_ns: int, ttl_s: float) -> Lease:
    # Counted from before the question: our view of the lease ends before the server's.
    worker, floor_ms, ceiling_ms = row
    return Lease(worker, floor_ms, ceiling_ms, asked_ns + int(ttl_s * 1e9))
