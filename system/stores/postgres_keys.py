"""Idempotency keys as unique rows in PostgreSQL.

One statement, one round trip. A repeat touches the row it finds, so its commit writes WAL and waits for the standby like
the first one did. Keys are kept for a day at least; every CLEAN_EVERY reservations an instance removes some older ones.
"""

from __future__ import annotations

from typing import LiteralString, Self

from system.kernel.policies import Policies
from system.kernel.settings import Settings
from system.ports import Reservation
from system.stores import postgres_pool as pools
from system.stores.postgres_pool import Connection, Pool
from system.stores.postgres_users import SCHEMA

POOL_SIZE = 8
CLEAN_EVERY = 1_000

_RESERVE: LiteralString = """INSERT INTO request_keys AS k (user_id, key, tweet_id, body_hash) VALUES (%s, %s, %s, %s)
            ON CONFLICT (user_id, key) DO UPDATE SET used = k.used + 1 RETURNING tweet_id, body_hash, used"""
_CLEAN: LiteralString = """DELETE FROM request_keys WHERE (user_id, key) IN (
            SELECT user_id, key FROM request_keys WHERE made_at < now() - interval '1 day' LIMIT 5000)"""


class PostgresKeys:
    """`KeyStore` in the database of the namespace."""

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        self._server_url = url
        self._database = database
        self._pool = Pool(pools.database_url(url, database), size=POOL_SIZE, knobs=knobs)
        self._reserved = 0

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return a key store. Connects at first use; tables need `prepare` once."""
        return cls(settings.stores.postgres_url, settings.namespace, settings.policies)

    async def close(self) -> None:
        """Close all connections. Safe to repeat."""
        await self._pool.close()

    async def ready(self) -> None:
        """Return where the database answers with its tables; raises StoreUnavailable otherwise."""
        await self._pool.run(lambda connection: connection.execute("SELECT 1 FROM request_keys LIMIT 1"), "answer")

    async def prepare(self) -> None:
        """Create database and tables where they are missing. Safe to repeat, and from several processes at once."""
        await pools.create_database(self._server_url, self._database, SCHEMA.read_text(encoding="utf-8"))

    async def clear(self) -> None:
        """Forget all keys."""
        await self._pool.run(lambda connection: connection.execute("TRUNCATE request_keys"), "clear keys")

    async def drop(self) -> None:
        """Remove the database with all it holds."""
        await self.close()
        await pools.drop_database(self._server_url, self._database)

    async def reserve(self, user_id: int, key: str, tweet_id: int, body_hash: str) -> Reservation:
        async def work(connection: Connection) -> tuple[int, str, int]:
            row = await (await connection.execute(_RESERVE, (user_id, key, tweet_id, body_hash))).fetchone()
            assert row is not None  # the statement inserts or updates exactly one row
            return row[0], row[1], row[2]

        first_id, first_hash, used = await self._pool.run(work, "reserve the key")
        self._reserved += 1
        if self._reserved % CLEAN_EVERY == 0:
            await self._pool.run(lambda connection: connection.execute(_CLEAN), "remove old keys")
        return Reservation(first_id, first_hash, fresh=used == 0)
