"""TokenStore on PostgreSQL: each change one statement, so one transaction. Schema and functions: `postgres/tokens.sql`.

While PostgreSQL has no primary, revocations are read from its other members (correctness.md, point 16); nothing else is.

A repeated revocation writes its row again, so its commit waits for whatever the first one's commit waited for.
"""

from __future__ import annotations

import asyncio
from typing import Any, LiteralString

from system.kernel.errors import StoreUnavailable
from system.kernel.policies import Policies
from system.ports.tokens import Grant
from system.stores.postgres import pool as pools
from system.stores.postgres.base import Postgres
from system.stores.postgres.pool import Connection

CLEAN_EVERY = 1_000  # grants after which an instance removes what is expired

_REVOKED: LiteralString = "SELECT name FROM revocations WHERE until > clock_timestamp()"
_GRANT: LiteralString = "grant_id, user_id, scope, used"
_CLEAN: tuple[LiteralString, ...] = (
    "DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires_at < now() LIMIT 5000)",
    "DELETE FROM revocations WHERE name IN (SELECT name FROM revocations WHERE until < now() LIMIT 5000)",
)


class PostgresTokens(Postgres):
    """Grants and revocations in the database of the namespace."""

    pool_size = 4  # gateways use one, to poll
    schema = "tokens.sql"
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
        try:
            rows = await self._rows(_REVOKED, (), "read revocations")
            return frozenset(row[0] for row in rows)
        except StoreUnavailable:
            if len(pools.members(self._pool.url)) == 1:
                raise
            return await self._revoked_without_primary()

    async def _revoked_without_primary(self) -> frozenset[str]:
        """Return what all members but one know together: an acknowledged revocation shows on two of them at least."""
        addresses = pools.members(self._pool.url)
        found = await asyncio.gather(*(self._revoked_at(address) for address in addresses), return_exceptions=True)
        known = [names for names in found if not isinstance(names, BaseException)]
        if len(known) < len(addresses) - 1:
            raise StoreUnavailable(f"PostgreSQL has no primary, and only {len(known)} of its {len(addresses)} members told "
                                   f"revocations; {len(addresses) - 1} must.", definite=True)
        return frozenset[str]().union(*known)

    async def _revoked_at(self, address: str) -> set[str]:
        connection = await pools.connect(pools.member_url(self._pool.url, address, whatever=True), pools.ATTEMPT_S)
        try:
            async with asyncio.timeout(pools.ATTEMPT_S):
                return {row[0] for row in await (await connection.execute(_REVOKED)).fetchall()}
        finally:
            await connection.close()


async def _clean(connection: Connection) -> None:
    for statement in _CLEAN:
        await connection.execute(statement)


def _grant(rows: list[tuple[Any, ...]]) -> Grant | None:
    return Grant(*rows[0]) if rows else None
