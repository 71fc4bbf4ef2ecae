"""Idempotency keys as unique rows in PostgreSQL.

Concurrent reservations share one statement (`batcher`), one round trip and one commit. A repeat updates the
existing row, so its commit writes WAL and waits for the standby, as the first one did. Keys are kept for at
least a day; after every CLEAN_EVERY reservations an instance removes some older ones.
"""

from __future__ import annotations

from typing import LiteralString

from system.kernel.policies import Policies
from system.ports import Reservation
from system.stores.postgres.base import Postgres
from system.stores.postgres.batcher import Batcher

Request = tuple[int, str, int, str]
"""(user, key, tweet id, hash of the body)"""

# MAX_KEYS per batch; one commit waits for the disk while the next batch is sent.
CONCURRENT_BATCHES, MAX_KEYS = 2, 128
CLEAN_EVERY = 1_000

# Ordered by key, so that batches of two instances lock shared rows in the same order and never deadlock.
_RESERVE: LiteralString = """INSERT INTO request_keys AS k (user_id, key, tweet_id, body_hash)
            SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::text[]) AS wanted (user_id, key, tweet_id, body_hash)
            ORDER BY user_id, key
            ON CONFLICT (user_id, key) DO UPDATE SET used = k.used + 1 RETURNING user_id, key, tweet_id, body_hash, used"""
_CLEAN: LiteralString = """DELETE FROM request_keys WHERE (user_id, key) IN (
            SELECT user_id, key FROM request_keys WHERE made_at < now() - interval '1 day' LIMIT 5000)"""


class PostgresKeys(Postgres):
    """`KeyStore` in the namespace's database."""

    pool_size = CONCURRENT_BATCHES + 1  # one more connection removes old keys
    probe = "SELECT 1 FROM request_keys LIMIT 1"
    clear_statement = "TRUNCATE request_keys"

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        super().__init__(url, database, knobs)
        self._batcher = Batcher(self._reserve, lambda request: request[:2], concurrency=CONCURRENT_BATCHES, max_items=MAX_KEYS)
        self._reserved = 0

    async def reserve(self, user_id: int, key: str, tweet_id: int, body_hash: str) -> Reservation:
        reservation = await self._batcher.submit((user_id, key, tweet_id, body_hash))
        self._reserved += 1
        if self._reserved % CLEAN_EVERY == 0:
            await self._pool.run(lambda connection: connection.execute(_CLEAN), "remove old keys")
        return reservation

    async def _reserve(self, requests: list[Request]) -> list[Reservation]:
        rows = await self._rows(_RESERVE, [list(column) for column in zip(*requests)], "reserve the key")
        reservations = {(user_id, key): Reservation(first, body_hash, fresh=used == 0)
                        for user_id, key, first, body_hash, used in rows}
        return [reservations[request[:2]] for request in requests]
