"""Calls that arrive while a batch is running share the next batch."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import StoreUnavailable
from system.stores.postgres.batcher import Batcher


class BatchedStore:
    """A store whose batches finish on demand; it returns the double of each item."""

    def __init__(self, concurrency: int = 1, max_items: int = 10) -> None:
        self.batches: list[list[int]] = []
        self.finished: list[asyncio.Event] = []
        self.failing: set[int] = set()
        self.batcher = Batcher(self.work, lambda item: item, concurrency=concurrency, max_items=max_items)

    async def work(self, items):
        self.batches.append(list(items))
        self.finished.append(asyncio.Event())
        await self.finished[-1].wait()
        if self.failing.intersection(items):
            raise StoreUnavailable("failed on request", definite=True)
        return [2 * item for item in items]

    def submit(self, *items: int) -> list[asyncio.Task[int]]:
        return [asyncio.ensure_future(self.batcher.submit(item)) for item in items]

    async def finish(self, n: int) -> None:
        await _run_ready_tasks()
        self.finished[n].set()
        await _run_ready_tasks()


async def _run_ready_tasks() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_single_call_starts_immediately_and_later_calls_share_a_batch():
    """An idle store answers without a wait; a busy one answers many calls with one flush."""
    store = BatchedStore()
    tasks = store.submit(1)
    await _run_ready_tasks()
    tasks += store.submit(2, 3, 4)
    await store.finish(0)
    await store.finish(1)
    assert store.batches == [[1], [2, 3, 4]]
    assert [task.result() for task in tasks] == [2, 4, 6, 8]


async def test_two_batches_run_concurrently():
    """While one waits for the disk, the next is sent."""
    store = BatchedStore(concurrency=2)
    tasks = store.submit(1, 2, 3)
    await _run_ready_tasks()
    assert store.batches == [[1, 2, 3]]
    tasks += store.submit(4)
    await _run_ready_tasks()
    assert store.batches == [[1, 2, 3], [4]]
    await store.finish(0)
    await store.finish(1)
    assert sorted(task.result() for task in tasks) == [2, 4, 6, 8]


async def test_a_batch_has_a_maximum_size():
    """A statement is bounded; the remaining items are in the next batch, in order."""
    store = BatchedStore(max_items=2)
    tasks = store.submit(1, 2, 3, 4, 5)
    for n in range(3):
        await store.finish(n)
    assert store.batches == [[1, 2], [3, 4], [5]]
    assert [task.result() for task in tasks] == [2, 4, 6, 8, 10]


async def test_two_items_with_one_key_are_in_separate_batches():
    """One statement cannot write a row twice; the first to arrive is sent first."""
    store = BatchedStore()
    tasks = store.submit(7, 7, 8)
    await store.finish(0)
    await store.finish(1)
    assert store.batches == [[7, 8], [7]]
    assert [task.result() for task in tasks] == [14, 14, 16]


async def test_an_error_reaches_exactly_the_callers_of_its_batch():
    """Waiting calls still run after a failed batch."""
    store = BatchedStore()
    store.failing = {1}
    failed = store.submit(1)
    await _run_ready_tasks()
    waiting = store.submit(2, 3)
    await store.finish(0)
    await store.finish(1)
    with pytest.raises(StoreUnavailable):
        failed[0].result()
    assert [task.result() for task in waiting] == [4, 6]


async def test_a_call_cancelled_before_its_batch_starts_is_left_out():
    """No work is done for a caller that is no longer waiting."""
    store = BatchedStore()
    store.submit(1)
    await _run_ready_tasks()
    cancelled, waiting = store.submit(2, 3)
    await _run_ready_tasks()
    cancelled.cancel()
    await store.finish(0)
    await store.finish(1)
    assert store.batches == [[1], [3]]
    assert waiting.result() == 6
