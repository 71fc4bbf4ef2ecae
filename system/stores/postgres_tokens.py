"""TokenStore on PostgreSQL: each change one statement, so one transaction. Schema and functions: `schema/postgres_tokens.sql`.

A repeated revocation writes its row again, so its commit waits for whatever the first one's commit waited for.
"""

from __future__ import annotations

from typing import Any, LiteralString

from system.kernel.policies import Policies
from system.ports.tokens import Grant
from system.stores.postgres_base import Postgres
from system.stores.postgres_pool import Connection

CLEAN_EVERY = 1_000  # grants after which an instance removes what is expired

_GRANT: LiteralString = "grant_id, user_id, scope, used"
_CLEAN: tuple[LiteralString, ...] = (
    "DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires_at < now() LIMIT 5000)",
    "DELETE FROM revocations WHERE name IN (SELECT name FROM revocations WHERE until < now() LIMIT 5000)",
)


class PostgresTokens(Postgres):
    """Grants and revocations in the database of the namespace."""

    pool_size = 4  # gateways use one, to poll
    schema = "postgres_tokens.sql"
    probe = "SELECT 1 FROM revocations LIMIT 1"
    emptying = "TRUNCATE refresh_tokens, revocations"

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        super().__init__(url, database, knobs)
        self._begun = 0

    async def begin(self, grant: Grant, token_hash: str, life_s: float) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO refresh_tokens VALUES (%s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))",
                (token_hash, grant.id, grant.user_id, grant.scope, life_s))

        await self._pool.run(work, "keep the grant")
        self._begun += 1
        if self._begun % CLEAN_EVERY == 0:
            await self._pool.run(_clean, "remove old tokens")

    async def find(self, token_hash: str) -> Grant | None:
        statement: LiteralString = f"SELECT {_GRANT} FROM refresh_tokens WHERE hash = %s AND expires_at > clock_timestamp()"
        return _grant(await self._rows(statement, (token_hash,), "read the grant"))

    async def rotate(self, token_hash: str, next_hash: str, life_s: float, access_s: float) -> Grant | None:
        statement: LiteralString = f"SELECT {_GRANT} FROM rotate_refresh(%s, %s, %s, %s)"
        return _grant(await self._rows(statement, (token_hash, next_hash, life_s, access_s), "rotate the token"))

    async def end(self, token_hash: str, access_s: float) -> Grant | None:
        statement: LiteralString = f"SELECT {_GRANT} FROM end_grant(%s, %s)"
        return _grant(await self._rows(statement, (token_hash, access_s), "revoke the grant"))

    async def revoke(self, name: str, life_s: float) -> None:
        await self._rows("SELECT 1 FROM revoke_name(%s, %s)", (name, life_s), "revoke the token")

    async def revoked(self) -> frozenset[str]:
        rows = await self._rows("SELECT name FROM revocations WHERE until > clock_timestamp()", (), "read revocations")
        return frozenset(row[0] for row in rows)


async def _clean(connection: Connection) -> None:
    for statement in _CLEAN:
        await connection.execute(statement)


def _grant(rows: list[tuple[Any, ...]]) -> Grant | None:
    return Grant(*rows[0]) if rows else None
