"""How many rebuilds run and wait in a process.

After a cache loss every reader asks for a rebuild. Without a bound by time a full queue would be served in order long after
its readers left, and everybody would get 504 instead of some a page and the others 503 at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from system.kernel.errors import Overloaded
from system.services.timelines import policy

T = TypeVar("T")


class RebuildLimiter:
    """Lets `concurrency` run and `queue` more wait; refuses what comes beyond, and who could not be served in time."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._concurrency, self._queue = concurrency, queue
        self._slots = asyncio.Semaphore(concurrency)
        self._running = self._waiting = 0
        self._took_s = 0.0

    @asynccontextmanager
    async def enter(self, left_s: float) -> AsyncIterator[None]:
        """Hold a place. `left_s`: until the reader is gone. Raises Overloaded (definite, with a time to retry after)."""
        began_s = await self._take(left_s)
        try:
            yield
        finally:
            self._give_back(began_s)

    async def run(self, work: Callable[[], Awaitable[T]], left_s: float) -> T:
        """Do `work` to its end, whatever becomes of the caller: a build goes on without its reader, and so does its place."""
        began_s = await self._take(left_s)
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda done: self._ended(done, began_s))
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Future[T], began_s: float) -> None:
        self._give_back(began_s)
        if not task.cancelled():
            task.exception()  # told to the caller; he may be gone

    async def _take(self, left_s: float) -> float:
        wait_s = policy.expected_wait_s(self._running, self._waiting, self._concurrency, self._took_s)
        admitted = policy.admits(self._running, self._waiting, self._concurrency, self._queue)
        if not admitted or not policy.in_time(wait_s, self._took_s, left_s):
            raise Overloaded(f"{self._running} timelines are being rebuilt and {self._waiting} wait; a place would be free in "
                             f"{wait_s:.1f} s. Retry then.", retry_after_s=max(1.0, wait_s))
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        return time.monotonic()

    def _give_back(self, began_s: float) -> None:
        self._took_s = policy.mean_s(self._took_s, time.monotonic() - began_s)
        self._running -= 1
        self._slots.release()
