"""Calls that come together go out together: one statement, one commit, for all that wait.

A statement that is durable before it is answered costs a flush of the log, however little it writes. While `lanes` rounds
are under way, whoever comes waits, and the next round takes all of them: an idle store answers a lone call at once, a busy
one answers a hundred for the price of one. (A database's own group commit shares the flush, but not the round trips, the
statements and the places in the pool.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Batcher of `work`, which takes items of different `key` and returns their results in the same order.

    `lanes`: rounds under way at once. `most`: items of one round. What a round raises, each of its items raises.
    """

    def __init__(self, work: Callable[[list[Item]], Awaitable[Sequence[Result]]], key: Callable[[Item], Hashable], *,
                 lanes: int, most: int) -> None:
        self._work, self._key, self._free, self._most = work, key, lanes, most
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def do(self, item: Item) -> Result:
        """Return the result of `item` in the next round. A caller who leaves before it begins is left out of it."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._free:
            self._free -= 1
            task = asyncio.ensure_future(self._run())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
        return await answer

    async def _run(self) -> None:
        try:
            while batch := self._take():
                await self._round(batch)
        finally:
            self._free += 1

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """Take who waits, in their order; of two with one key the later stays for a later round."""
        taken: dict[Hashable, tuple[Item, asyncio.Future[Result]]] = {}
        stay: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(taken) < self._most:
            item, answer = self._waiting.popleft()
            if answer.done():
                continue
            key = self._key(item)
            if key in taken:
                stay.append((item, answer))
            else:
                taken[key] = (item, answer)
        self._waiting.extendleft(reversed(stay))
        return list(taken.values())

    async def _round(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
        except BaseException as problem:  # also where the loop ends: nobody may wait for ever
            for _, answer in batch:
                if not answer.done():
                    answer.set_exception(problem) if isinstance(problem, Exception) else answer.cancel()
            if not isinstance(problem, Exception):
                raise
            return
        for (_, answer), result in zip(batch, results, strict=True):
            if not answer.done():
                answer.set_result(result)
