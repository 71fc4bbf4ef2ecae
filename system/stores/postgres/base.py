"""Common base of all adapters on PostgreSQL: a pool on the namespace's database, and its tables."""

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
    """An adapter with its own connection pool. Subclasses set these attributes:

    `pool_size`: maximum number of connections per process. `schema`: the SQL file that creates the tables.
    `probe`: a statement that reads one row of them. `clear_statement`: empties them.
    `clear_timeout_s`: deadline of that statement in seconds; None = the store's deadline.
    """

    pool_size: ClassVar[int]
    schema: ClassVar[str] = "schema.sql"
    probe: ClassVar[LiteralString]
    clear_statement: ClassVar[LiteralString]
    clear_timeout_s: ClassVar[float | None] = None

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        self._server_url = url
        self._database = database
        self._pool = Pool(pools.database_url(url, database), size=self.pool_size, knobs=knobs)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return a store on the namespace's database.

        Connects on first use; `prepare` creates the tables, once.
        """
        return cls(settings.stores.postgres_url, settings.namespace, settings.policies)

    async def close(self) -> None:
        """Wait for running statements and close all connections. Safe to repeat."""
        await self._pool.close()

    async def ready(self) -> None:
        """Return if the database answers and has its tables. Raises StoreUnavailable."""
        await self._rows(self.probe, (), "answer")

    async def prepare(self) -> None:
        """Create the database and its tables if they are missing.

        Safe to repeat, and from several processes concurrently.
        """
        await pools.create_database(self._server_url, self._database, (SCHEMAS / self.schema).read_text(encoding="utf-8"))

    async def clear(self) -> None:
        """Run `clear_statement`."""
        await self._pool.run(lambda connection: connection.execute(self.clear_statement), "empty its tables",
                             self.clear_timeout_s)

    async def drop(self) -> None:
        """Drop the database with all its contents."""
        await self.close()
        await pools.drop_database(self._server_url, self._database)

    async def _rows(self, statement: LiteralString, values: Sequence[Any], doing: str) -> list[tuple[Any, ...]]:
        async def work(connection: Connection) -> list[tuple[Any, ...]]:
            return await (await connection.execute(statement, values)).fetchall()

        return await self._pool.run(work, doing)
