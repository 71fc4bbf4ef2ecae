"""Tells the relay that PostgreSQL's outbox holds new rows.

`NOTIFY` goes out after the commit, by a statement of its own: inside the transaction it would make all commits of the
database wait for each other. A lost wake-up costs a second, the relay's own pace.
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


class Waker:
    """Wakes the relay over `pool`, once for all changes of a few milliseconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._due = False
        self._running: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """Wake the relay soon. Never waits, never fails."""
        if self._due:
            return
        self._due = True
        task = asyncio.get_running_loop().create_task(self._notify())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def close(self) -> None:
        """Drop what waits."""
        for task in list(self._running):
            task.cancel()

    async def _notify(self) -> None:
        await asyncio.sleep(NOTIFY_AFTER_S)
        self._due = False
        # NOTIFY writes a commit record; nobody needs it on disk.
        statement = f"BEGIN; SET LOCAL synchronous_commit = off; NOTIFY {CHANNEL}; COMMIT"
        with contextlib.suppress(StoreUnavailable):  # the relay looks each second anyway
            await self._pool.run(lambda connection: connection.execute(statement.encode()), "wake the relay")


class Waking(Postgres):
    """An adapter whose changes leave rows in the outbox; it wakes the relay after each."""

    def __init__(self, url: str, database: str, knobs: Policies) -> None:
        super().__init__(url, database, knobs)
        self._waker = Waker(self._pool)

    async def close(self) -> None:
        """Drop wake-ups that wait, wait for changes under way and close all connections. Safe to repeat."""
        self._waker.close()
        await super().close()
