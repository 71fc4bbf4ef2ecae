"""Idempotency keys as unique rows in PostgreSQL.

Keys that come together are reserved by one statement (`rounds`), one round trip and one commit. A repeat touches the row it
finds, so its commit writes WAL and waits for the standby like the first one did. Keys are kept for a day at least; every
CLEAN_EVERY reservations an instance removes some older ones.
"""

from __future__ import annotations

from typing import LiteralString, Self

from system.kernel.policies import Policies
from system.kernel.settings import Settings
from system.ports import Reservation
from system.stores import postgres_pool as pools
from system.stores.postgres_pool import Connection, Pool
from system.stores.postgres_users import SCHEMA
from system.stores.rounds import Rounds

Asked = tuple[int, str, int, str]
"""(user, key, tweet id, hash of the body)"""

LANES, MOST = 2, 128     # rounds under way, and keys of each: a commit waits for the disk while the next round goes out
POOL_SIZE = LANES + 1    # and one that removes old keys
CLEAN_EVERY = 1_000

# In the order of the keys, so that rounds of two instances lock the rows they share in one order and never each other.
_RESERVE: LiteralString = """INSERT INTO request_keys AS k (user_id, key, tweet_id, body_hash)
            SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[]) AS asked (user_id, key, tweet_id, body_hash)
            ORDER BY user_id, key
            ON CONFLICT (user_id, key) DO UPDATE SET used = k.used + 1 RETURNING user_id, key, tweet_id, body_hash, used"""
_CLEAN: LiteralString = """DELETE FROM request_keys WHERE (user_id, key) IN (
            SELECT user_id, key FROM request_keys WHERE made_at < now() - interval '1 day' LIMIT 5000)"""


class PostgresKeys:
    """`KeyStore` in the database of the namespace."""

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        self._server_url = url
        self._database = database
        self._pool = Pool(pools.database_url(url, database), size=POOL_SIZE, knobs=knobs)
        self._rounds = Rounds(self._reserve, lambda asked: asked[:2], lanes=LANES, most=MOST)
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
        standing = await self._rounds.do((user_id, key, tweet_id, body_hash))
        self._reserved += 1
        if self._reserved % CLEAN_EVERY == 0:
            await self._pool.run(lambda connection: connection.execute(_CLEAN), "remove old keys")
        return standing

    async def _reserve(self, asked: list[Asked]) -> list[Reservation]:
        columns = [list(column) for column in zip(*asked)]

        async def work(connection: Connection) -> list[tuple[int, str, int, str, int]]:
            return await (await connection.execute(_RESERVE, columns)).fetchall()

        rows = await self._pool.run(work, "reserve the key")
        found = {(user_id, key): Reservation(first, body_hash, fresh=used == 0) for user_id, key, first, body_hash, used in rows}
        return [found[row[:2]] for row in asked]
