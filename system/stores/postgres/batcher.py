"""Batch concurrent calls: one statement and one commit for all calls that wait.

A statement that is durable before it is answered costs a flush of the log, however little it writes. While
`concurrency` batches are running, new calls wait, and the next batch takes all of them: an idle store answers
a single call immediately, a busy one answers a hundred for the price of one. (A database's own group commit
shares the flush, but not the round trips, the statements and the connections of the pool.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Batches calls of `work`, which takes items with distinct keys and returns results in the same order.

    `concurrency`: batches that run at the same time. `max_items`: items per batch. An error of a batch is
    raised to the caller of each of its items.
    """

    def __init__(self, work: Callable[[list[Item]], Awaitable[Sequence[Result]]], key: Callable[[Item], Hashable], *,
                 concurrency: int, max_items: int) -> None:
        self._work, self._key, self._free, self._max_items = work, key, concurrency, max_items
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def submit(self, item: Item) -> Result:
        """Return the result of `item` from the next batch.

        An item whose caller is cancelled before that is left out.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._free:
            self._free -= 1
            task = asyncio.ensure_future(self._run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await future

    async def _run(self) -> None:
        try:
            while batch := self._take():
                await self._run_batch(batch)
        finally:
            self._free += 1

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """Take waiting items in order; the second of two items with the same key waits for a later batch."""
        taken: dict[Hashable, tuple[Item, asyncio.Future[Result]]] = {}
        deferred: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(taken) < self._max_items:
            item, future = self._waiting.popleft()
            if future.done():
                continue
            key = self._key(item)
            if key in taken:
                deferred.append((item, future))
            else:
                taken[key] = (item, future)
        self._waiting.extendleft(reversed(deferred))
        return list(taken.values())

    async def _run_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
        except BaseException as problem:  # also when the loop ends: no caller may wait forever
            for _, future in batch:
                if not future.done():
                    future.set_exception(problem) if isinstance(problem, Exception) else future.cancel()
            if not isinstance(problem, Exception):
                raise
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
