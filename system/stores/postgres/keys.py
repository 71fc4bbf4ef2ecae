"""Idempotency keys as unique rows in PostgreSQL.

Keys that come together are reserved by one statement (`rounds`), one round trip and one commit. A repeat touches the row it
finds, so its commit writes WAL and waits for the standby like the first one did. Keys are kept for a day at least; every
CLEAN_EVERY reservations an instance removes some older ones.
"""

from __future__ import annotations

from typing import LiteralString

from system.kernel.policies import Policies
from system.ports import Reservation
from system.stores.postgres.base import Postgres
from system.stores.postgres.batcher import Batcher

Asked = tuple[int, str, int, str]
"""(user, key, tweet id, hash of the body)"""

LANES, MOST = 2, 128     # rounds under way, and keys of each: a commit waits for the disk while the next round goes out
CLEAN_EVERY = 1_000

# In the order of the keys, so that rounds of two instances lock the rows they share in one order and never each other.
_RESERVE: LiteralString = """INSERT INTO request_keys AS k (user_id, key, tweet_id, body_hash)
            SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[]) AS asked (user_id, key, tweet_id, body_hash)
            ORDER BY user_id, key
            ON CONFLICT (user_id, key) DO UPDATE SET used = k.used + 1 RETURNING user_id, key, tweet_id, body_hash, used"""
_CLEAN: LiteralString = """DELETE FROM request_keys WHERE (user_id, key) IN (
            SELECT user_id, key FROM request_keys WHERE made_at < now() - interval '1 day' LIMIT 5000)"""


class PostgresKeys(Postgres):
    """`KeyStore` in the database of the namespace."""

    pool_size = LANES + 1  # and one that removes old keys
    probe = "SELECT 1 FROM request_keys LIMIT 1"
    emptying = "TRUNCATE request_keys"

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        super().__init__(url, database, knobs)
        self._rounds = Batcher(self._reserve, lambda asked: asked[:2], lanes=LANES, most=MOST)
        self._reserved = 0

    async def reserve(self, user_id: int, key: str, tweet_id: int, body_hash: str) -> Reservation:
        standing = await self._rounds.do((user_id, key, tweet_id, body_hash))
        self._reserved += 1
        if self._reserved % CLEAN_EVERY == 0:
            await self._pool.run(lambda connection: connection.execute(_CLEAN), "remove old keys")
        return standing

    async def _reserve(self, asked: list[Asked]) -> list[Reservation]:
        rows = await self._rows(_RESERVE, [list(column) for column in zip(*asked)], "reserve the key")
        found = {(user_id, key): Reservation(first, body_hash, fresh=used == 0) for user_id, key, first, body_hash, used in rows}
        return [found[row[:2]] for row in asked]
