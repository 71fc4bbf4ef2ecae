"""The limiter of rebuilds: which run, which wait, which are refused immediately."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import Overloaded
from system.services.timelines.rebuild_limiter import RebuildLimiter


async def work(took_s: float = 0.02) -> str:
    await asyncio.sleep(took_s)
    return "built"


async def test_a_rebuild_that_would_outlive_its_reader_is_refused_immediately():
    """One slot, 20 ms each: a reader with 30 ms left gets 503 now instead of 504 later.

    One with a second waits.
    """
    limiter = RebuildLimiter(1, 64)
    await limiter.run(work, 1.0)
    running = asyncio.ensure_future(limiter.run(work, 1.0))
    await asyncio.sleep(0)

    with pytest.raises(Overloaded) as refusal:
        await limiter.run(work, 0.03)

    assert refusal.value.definite and refusal.value.retry_after_s == 1.0
    assert await limiter.run(work, 1.0) == await running == "built"


async def test_a_rebuild_keeps_its_slot_when_its_reader_leaves():
    """It continues without the reader; releasing its slot would let more and more run at once."""
    limiter = RebuildLimiter(1, 64)
    first = asyncio.ensure_future(limiter.run(lambda: work(0.05), 1.0))
    await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.ensure_future(limiter.run(work, 1.0))
    await asyncio.sleep(0.01)

    assert (limiter._running, limiter._waiting) == (1, 1)
    assert await second == "built"
    assert (limiter._running, limiter._waiting) == (0, 0)


async def test_a_reader_that_leaves_the_queue_takes_no_slot():
    """Nor does a failed rebuild keep one."""
    limiter = RebuildLimiter(1, 64)
    async with limiter.enter(1.0):
        waiting = asyncio.ensure_future(limiter.run(work, 1.0))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    with pytest.raises(ValueError):
        async with limiter.enter(1.0):
            raise ValueError

    assert (limiter._running, limiter._waiting) == (0, 0)
    assert await limiter.run(work, 1.0) == "built"


async def test_a_queue_beyond_its_bound_is_refused():
    """Whatever time is left."""
    limiter = RebuildLimiter(1, 1)
    tasks = [asyncio.ensure_future(limiter.run(work, float("inf"))) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await limiter.run(work, float("inf"))

    assert await asyncio.gather(*tasks) == ["built", "built"]
