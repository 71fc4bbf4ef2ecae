"""Worker numbers for ids, leased from PostgreSQL by the server's clock.

All 1,024 rows exist from the start. The number that has been unused longest is granted first. A grant raises
the row's ceiling before the holder can issue an id, and starts above the last holder's ceiling. That floor
grows with every grant, so it also identifies the grant (a fencing token): a holder that paused past its lease
and was replaced no longer matches its row.
"""

from __future__ import annotations

import time
from typing import Any, LiteralString

from system.kernel.errors import Conflict, Overloaded
from system.kernel.ids import MAX_WORKER, Lease
from system.stores.postgres.base import Postgres

_LEASE: LiteralString = "worker, floor_ms, ceiling_ms"


class PostgresLeases(Postgres):
    """`LeaseStore` in the namespace's database. Closing it leaves leases as they are."""

    pool_size = 2
    probe = "SELECT 1 FROM worker_leases LIMIT 1"
    # Takes all numbers from their holders. Ceilings stay, so ids stay unique.
    clear_statement = "UPDATE worker_leases SET holder = '', expires_at = now()"

    async def acquire(self, holder: str, ttl_s: float) -> Lease:
        statement: LiteralString = f"SELECT {_LEASE} FROM lease_acquire(%s, %s)"
        requested_ns = time.monotonic_ns()
        rows = await self._rows(statement, (holder, float(ttl_s)), "grant a worker number")
        if not rows:
            raise Overloaded(f"All {MAX_WORKER + 1} worker numbers are held; stop an instance or wait for a lease to end.",
                             retry_after_s=ttl_s)
        return _lease(rows[0], requested_ns, ttl_s)

    async def renew(self, holder: str, lease: Lease, ttl_s: float) -> Lease:
        statement: LiteralString = f"SELECT {_LEASE} FROM lease_renew(%s, %s, %s::bigint, %s)"
        requested_ns = time.monotonic_ns()
        rows = await self._rows(statement, (lease.worker, holder, lease.floor_ms, float(ttl_s)), "renew the lease")
        if not rows:
            raise Conflict(f"Worker number {lease.worker} is no longer {holder}'s; acquire another one.")
        return _lease(rows[0], requested_ns, ttl_s)

    async def release(self, holder: str, lease: Lease) -> None:
        statement: LiteralString = (
            "UPDATE worker_leases SET holder = '', expires_at = clock_timestamp() "
            "WHERE worker = %s AND holder = %s AND floor_ms = %s RETURNING worker"
        )
        await self._rows(statement, (lease.worker, holder, lease.floor_ms), "release the worker number")


def _lease(row: tuple[Any, ...], requested_ns: int, ttl_s: float) -> Lease:
    # Counted from before the request was sent: the lease ends here before it ends on the server.
    worker, floor_ms, ceiling_ms = row
    return Lease(worker, floor_ms, ceiling_ms, requested_ns + int(ttl_s * 1e9))
