"""TokenStore on PostgreSQL: each change is one statement, so one transaction.

Schema and functions: `postgres/tokens.sql`.

While PostgreSQL has no primary, revocations are read from its other members (correctness.md, point 16);
nothing else is.

A repeated revocation writes its row again, so its commit waits for the same replicas as the first one's
commit did.
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

CLEAN_EVERY = 1_000  # grants between two removals of expired rows by an instance

_REVOKED: LiteralString = "SELECT name FROM revocations WHERE until > clock_timestamp()"
_GRANT: LiteralString = "grant_id, user_id, scope, used"
_CLEAN: tuple[LiteralString, ...] = (
    "DELETE FROM refresh_tokens WHERE hash IN (SELECT hash FROM refresh_tokens WHERE expires_at < now() LIMIT 5000)",
    "DELETE FROM revocations WHERE name IN (SELECT name FROM revocations WHERE until < now() LIMIT 5000)",
)


class PostgresTokens(Postgres):
    """Grants and revocations in the namespace's database."""

    pool_size = 4  # a gateway uses one, to poll
    schema = "tokens.sql"
    probe = "SELECT 1 FROM revocations LIMIT 1"
    clear_statement = "TRUNCATE refresh_tokens, revocations"

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        super().__init__(url, database, knobs)
        self._granted = 0

    async def begin(self, grant: Grant, token_hash: str, life_s: float) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(
                "INSERT INTO refresh_tokens VALUES (%s, %s, %s, %s, clock_timestamp() + make_interval(secs => %s))",
                (token_hash, grant.id, grant.user_id, grant.scope, life_s))

        await self._pool.run(work, "store the grant")
        self._granted += 1
        if self._granted % CLEAN_EVERY == 0:
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
        """Return the union of the revocations on all members, or all but one: acknowledged ones are on two.

        Raises StoreUnavailable (definite) where fewer answer.
        """
        addresses = pools.members(self._pool.url)
        replies = await asyncio.gather(*(self._revoked_at(address) for address in addresses), return_exceptions=True)
        revocations = [names for names in replies if not isinstance(names, BaseException)]
        if len(revocations) < len(addresses) - 1:
            raise StoreUnavailable(f"PostgreSQL has no primary, and only {len(revocations)} of its {len(addresses)} members "
                                   f"returned revocations; {len(addresses) - 1} must.", definite=True)
        return frozenset[str]().union(*revocations)

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
