"""The gate of rebuilds: who runs, who waits, who is refused at once."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import Overloaded
from system.services.timelines.rebuild_limiter import RebuildLimiter


async def work(took_s: float = 0.02) -> str:
    await asyncio.sleep(took_s)
    return "built"


async def test_a_queue_that_would_outlive_its_reader_is_refused_at_once():
    """One place, 20 ms each: who has 30 ms is told 503 now and not 504 then; who has a second waits."""
    gate = RebuildLimiter(1, 64)
    await gate.run(work, 1.0)
    running = asyncio.ensure_future(gate.run(work, 1.0))
    await asyncio.sleep(0)

    with pytest.raises(Overloaded) as refusal:
        await gate.run(work, 0.03)

    assert refusal.value.definite and refusal.value.retry_after_s == 1.0
    assert await gate.run(work, 1.0) == await running == "built"


async def test_a_build_keeps_its_place_when_its_reader_leaves():
    """It goes on without him; giving its place away would run ever more of them at once."""
    gate = RebuildLimiter(1, 64)
    first = asyncio.ensure_future(gate.run(lambda: work(0.05), 1.0))
    await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.ensure_future(gate.run(work, 1.0))
    await asyncio.sleep(0.01)

    assert (gate._running, gate._waiting) == (1, 1)
    assert await second == "built"
    assert (gate._running, gate._waiting) == (0, 0)


async def test_a_reader_who_leaves_the_queue_takes_no_place():
    """Nor does a walk that fails keep one."""
    gate = RebuildLimiter(1, 64)
    async with gate.enter(1.0):
        waiting = asyncio.ensure_future(gate.run(work, 1.0))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    with pytest.raises(ValueError):
        async with gate.enter(1.0):
            raise ValueError

    assert (gate._running, gate._waiting) == (0, 0)
    assert await gate.run(work, 1.0) == "built"


async def test_a_queue_beyond_its_bound_is_refused():
    """Whatever time is left."""
    gate = RebuildLimiter(1, 1)
    tasks = [asyncio.ensure_future(gate.run(work, float("inf"))) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded):
        await gate.run(work, float("inf"))

    assert await asyncio.gather(*tasks) == ["built", "built"]
