"""Limits how many rebuilds run and wait in a process.

After a cache loss every reader needs a rebuild (a cache stampede). A rebuild that would miss the deadline of
its reader is refused immediately. Otherwise a full queue would be processed in order, long after its readers
gave up, and every reader would get 504; so some get a page, and the others an immediate 503.
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
    """Admits `concurrency` running and `queue` waiting rebuilds.

    Refuses further ones, and those that would miss their deadline.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self._concurrency, self._queue = concurrency, queue
        self._slots = asyncio.Semaphore(concurrency)
        self._running = self._waiting = 0
        self._took_s = 0.0

    @asynccontextmanager
    async def enter(self, left_s: float) -> AsyncIterator[None]:
        """Hold a slot while the context is open.

        `left_s`: seconds until the reader's deadline. Raises Overloaded (definite, with `retry_after_s`).
        """
        started_s = await self._acquire(left_s)
        try:
            yield
        finally:
            self._release(started_s)

    async def run(self, work: Callable[[], Awaitable[T]], left_s: float) -> T:
        """Run `work` to its end in a slot, even if the caller is cancelled; then it still holds its slot.

        `left_s`: as for `enter`. Raises Overloaded too.
        """
        started_s = await self._acquire(left_s)
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda done: self._on_done(done, started_s))
        return await asyncio.shield(task)

    def _on_done(self, task: asyncio.Future[T], started_s: float) -> None:
        self._release(started_s)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio logs it if the caller was cancelled; else the caller has received it

    async def _acquire(self, left_s: float) -> float:
        wait_s = policy.expected_wait_s(self._running, self._waiting, self._concurrency, self._took_s)
        admitted = policy.admits(self._running, self._waiting, self._concurrency, self._queue)
        if not admitted or not policy.in_time(wait_s, self._took_s, left_s):
            raise Overloaded(f"{self._running} timelines are being rebuilt and {self._waiting} wait; a slot should be free in "
                             f"{wait_s:.1f} s. Retry then.", retry_after_s=max(1.0, wait_s))
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        self._running += 1
        return time.monotonic()

    def _release(self, started_s: float) -> None:
        self._took_s = policy.mean_s(self._took_s, time.monotonic() - started_s)
        self._running -= 1
        self._slots.release()
