"""Notifies the relay that PostgreSQL's outbox holds new rows.

`NOTIFY` is a separate statement, sent after the commit: inside the transaction it would serialize all commits
of the database. A lost wake-up costs one second, the relay's polling interval.
"""

from __future__ import annotations

import asyncio
import contextlib

from system.kernel.errors import StoreUnavailable
from system.kernel.policies import Policies
from system.stores.postgres.base import Postgres
from system.stores.postgres.pool import Pool

CHANNEL = "tweetlab_outbox"
NOTIFY_AFTER_S = 0.005  # changes within this time share one wake-up


class RelayWaker:
    """Wakes the relay over `pool`, once for all changes within NOTIFY_AFTER_S."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._due = False
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Schedule a wake-up of the relay. Never waits, never fails."""
        if self._due:
            return
        self._due = True
        task = asyncio.get_running_loop().create_task(self._notify())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def close(self) -> None:
        """Drop scheduled wake-ups."""
        for task in list(self._running):
            task.cancel()

    async def _notify(self) -> None:
        await asyncio.sleep(NOTIFY_AFTER_S)
        self._due = False
        # NOTIFY writes a commit record, which need not be on disk.
        statement = f"BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {CHANNEL}; COMMIT"
        with contextlib.suppress(StoreUnavailable):  # the relay polls every second anyway
            await self._pool.run(lambda connection: connection.execute(statement.encode()), "wake the relay")


class OutboxWriter(Postgres):
    """An adapter whose changes write rows to the outbox; it wakes the relay after each change."""

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        super().__init__(url, database, knobs)
        self._waker = RelayWaker(self._pool)

    async def close(self) -> None:
        """Drop scheduled wake-ups, wait for running statements and close all connections. Safe to repeat."""
        self._waker.close()
        await super().close()
