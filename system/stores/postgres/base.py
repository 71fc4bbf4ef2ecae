"""What every adapter on PostgreSQL does alike: a pool on the namespace's database, whose tables it makes, probes and drops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, LiteralString, Self

from system.kernel.policies import Policies
from system.kernel.settings import Settings
from system.stores.postgres import pool as pools
from system.stores.postgres.pool import Connection, Pool

SCHEMAS = Path(__file__).parent


class Postgres:
    """An adapter with a pool of its own. Who inherits names what differs.

    `pool_size`: connections of one process, which takes up to that many of the server's. `schema`: the file with its tables.
    `probe`: reads a row of them. `emptying`: forgets all of them, in `emptying_s` seconds, None for the store's time limit.
    """

    pool_size: ClassVar[int]
    schema: ClassVar[str] = "schema.sql"
    probe: ClassVar[LiteralString]
    emptying: ClassVar[LiteralString]
    emptying_s: ClassVar[float | None] = None

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        self._server_url = url
        self._database = database
        self._pool = Pool(pools.database_url(url, database), size=self.pool_size, knobs=knobs)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return a store on the database of the namespace. Connects at first use; tables need `prepare` once."""
        return cls(settings.stores.postgres_url, settings.namespace, settings.policies)

    async def close(self) -> None:
        """Wait for changes under way and close all connections. Safe to repeat."""
        await self._pool.close()

    async def ready(self) -> None:
        """Return where the database answers with its tables; raises StoreUnavailable otherwise."""
        await self._rows(self.probe, (), "answer")

    async def prepare(self) -> None:
        """Create database and tables where they are missing. Safe to repeat, and from several processes at once."""
        await pools.create_database(self._server_url, self._database, (SCHEMAS / self.schema).read_text(encoding="utf-8"))

    async def clear(self) -> None:
        """Forget what `emptying` names."""
        await self._pool.run(lambda connection: connection.execute(self.emptying), "empty its tables", self.emptying_s)

    async def drop(self) -> None:
        """Remove the database with all it holds."""
        await self.close()
        await pools.drop_database(self._server_url, self._database)

    async def _rows(self, statement: LiteralString, values: Sequence[Any], doing: str) -> list[tuple[Any, ...]]:
        async def work(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(statement, values)).fetchall()

        return await self._pool.run(work, doing)
