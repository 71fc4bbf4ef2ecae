"""LimitStore: the same contract in memory and on a separate Redis."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time

import pytest

from system.kernel.errors import StoreUnavailable
from system.kernel.resilience.rate_window import Quota
from tests.helpers.adapters import BOTH


@pytest.fixture
async def real_limits(real_settings, own_redis):
    from system.stores.redis.limits import RedisLimits

    stores = dataclasses.replace(real_settings.stores, limits=own_redis.address)
    store = await RedisLimits.open(dataclasses.replace(real_settings, stores=stores))
    yield store
    await store.close()


@pytest.fixture(params=BOTH)
def limits(request):
    """A store without counters."""
    from tests.fakes.limits import MemoryLimits

    return MemoryLimits() if request.param == "memory" else request.getfixturevalue("real_limits")


async def test_a_caller_gets_the_full_limit_in_every_window(limits):
    """Three of three, then none, then all three again when the window has passed."""
    first = [await limits.take([Quota("ann", 3)], 0.6) for _ in range(4)]
    await asyncio.sleep(first[3].wait_s + 0.01)
    second = [await limits.take([Quota("ann", 3)], 0.6) for _ in range(4)]

    assert [take.admitted for take in first] == [take.admitted for take in second] == [True, True, True, False]
    assert [take.remaining for take in first] == [2, 1, 0, 0]
    assert 0.5 < first[3].wait_s <= 0.66


@pytest.mark.real
async def test_requests_counted_before_the_redis_clock_stepped_back_still_count(real_limits):
    """They count from now on, for one window. Moving the counters a day ahead simulates the step."""
    for _ in range(3):
        await real_limits.take([Quota("ann", 3)], 0.6)
    moved = await real_limits.link.call("EVAL", """
        local moved = 0
        for _, key in ipairs(redis.call('KEYS', '*r:ann')) do
            local counts = redis.call('HGETALL', key)
            redis.call('DEL', key)
            for j = 1, #counts, 2 do
                redis.call('HSET', key, string.format('%d', counts[j] + 1728000), counts[j + 1])
                moved = moved + counts[j + 1]
            end
        end
        return moved""", 0)
    refused = await real_limits.take([Quota("ann", 3)], 0.6)
    await asyncio.sleep(max(0.0, refused.wait_s) + 0.01)

    assert moved == 3 and not refused.admitted and refused.wait_s <= 0.66
    assert (await real_limits.take([Quota("ann", 3)], 0.6)).admitted


async def test_the_reset_is_a_future_wall_time(limits):
    """`x-rate-limit-reset` is derived from it."""
    standing = await limits.take([Quota("ann", 3)], 60.0)

    assert 54.0 < standing.reset_s - time.time() <= 65.1
    assert standing.limit == 3


async def test_a_request_refused_by_one_quota_counts_in_none(limits):
    """All or nothing, in one step; the tightest quota is the one reported."""
    await limits.take([Quota("all", 1)], 60.0)
    refused = await limits.take([Quota("home", 10), Quota("all", 1)], 60.0)
    alone = await limits.take([Quota("home", 10)], 60.0)

    assert (refused.admitted, refused.limit, alone.remaining) == (False, 1, 9)


async def test_concurrent_requests_are_admitted_exactly_up_to_the_limit(limits):
    """No interleaving of two gateways admits one more."""
    takes = await asyncio.gather(*(limits.take([Quota("ann", 20), Quota("all", 100)], 60.0) for _ in range(60)))

    assert sum(take.admitted for take in takes) == 20


async def test_callers_have_separate_limits(limits):
    """There is one counter per key."""
    await limits.take([Quota("ann", 1)], 60.0)

    assert (await limits.take([Quota("bob", 1)], 60.0)).admitted


async def test_requests_admitted_elsewhere_count_whatever_the_limit(limits):
    """A gateway reports the requests that it admitted while the store was down."""
    await limits.add({f"user {n}": 5 for n in range(1200)}, 60.0)

    assert not (await limits.take([Quota("user 0", 5)], 60.0)).admitted
    assert not (await limits.take([Quota("user 1199", 5)], 60.0)).admitted
    assert (await limits.take([Quota("user 7", 6)], 60.0)).remaining == 0


@pytest.mark.real
async def test_counters_expire_and_old_slots_are_removed(real_limits):
    """Redis holds at most a window and a slot per caller, however long they keep calling."""
    for _ in range(40):
        await real_limits.take([Quota("ann", 1_000)], 0.3)
        await asyncio.sleep(0.02)
    link = real_limits.link
    key = f"{link.prefix}r:ann"

    assert int(await link.call("HLEN", key)) <= 26
    assert 0 < int(await link.call("PTTL", key)) <= 326
    await asyncio.sleep(0.35)
    assert int(await link.call("EXISTS", key)) == 0


@pytest.mark.real
async def test_a_frozen_store_fails_fast(real_limits, own_redis):
    """A stopped server is detected within a quarter of a second, because a client request waits for it."""
    await real_limits.take([Quota("ann", 3)], 60.0)
    os.kill(own_redis.pid, signal.SIGSTOP)
    began_s = time.monotonic()
    try:
        with pytest.raises(StoreUnavailable):
            await real_limits.take([Quota("ann", 3)], 60.0)
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)

    assert time.monotonic() - began_s < 1.0
