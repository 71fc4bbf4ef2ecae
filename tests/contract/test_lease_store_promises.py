"""What every lease store promises: one holder a number, and ids that never meet those of the last holder."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from system.kernel import clock, ids
from system.kernel.errors import Conflict, Overloaded
from tests.helpers.durable_stores import durable_settings, leases, real_leases


async def test_racing_holders_get_different_numbers(leases):
    """Forty instances start at once."""
    granted = await asyncio.gather(*(leases.acquire(f"tweets-{n}", 30.0) for n in range(40)))

    assert len({lease.worker for lease in granted}) == 40
    assert all(0 <= lease.worker <= 1023 for lease in granted)


async def test_the_number_out_of_use_longest_is_granted(leases):
    """A number given back a moment ago comes last, however long ago it was granted."""
    first = await leases.acquire("a", 30.0)
    await leases.release("a", first)

    second = await leases.acquire("b", 30.0)
    third = await leases.acquire("c", 30.0)

    assert len({first.worker, second.worker, third.worker}) == 3


async def test_a_renewal_keeps_the_number_and_raises_the_ceiling(leases):
    """The floor stays, it names the grant."""
    lease = await leases.acquire("a", 5.0)

    renewed = await leases.renew("a", lease, 60.0)

    assert (renewed.worker, renewed.floor_ms) == (lease.worker, lease.floor_ms)
    assert renewed.ceiling_ms > lease.ceiling_ms
    assert renewed.deadline_ns > lease.deadline_ns


async def test_another_holder_cannot_renew_or_release(leases):
    """Neither by name nor with the lease of an earlier grant."""
    lease = await leases.acquire("a", 30.0)

    with pytest.raises(Conflict):
        await leases.renew("b", lease, 30.0)
    with pytest.raises(Conflict):
        await leases.renew("a", dataclasses.replace(lease, floor_ms=lease.floor_ms + 1), 30.0)
    await leases.release("b", lease)

    assert (await leases.renew("a", lease, 30.0)).worker == lease.worker


async def test_all_numbers_held_is_overload_until_one_is_given_back(leases):
    """The 1,025th holder is refused; the next one gets what was released, above its last ceiling."""
    granted = []
    for n in range(0, 1024, 32):
        granted += await asyncio.gather(*(leases.acquire(f"holder-{n + k}", 600.0) for k in range(32)))
    assert len({lease.worker for lease in granted}) == 1024

    with pytest.raises(Overloaded) as caught:
        await leases.acquire("one too many", 30.0)
    await leases.release("holder-5", granted[5])
    await asyncio.sleep(0.002)
    again = await leases.acquire("next", 30.0)

    assert caught.value.definite is True
    assert (again.worker, again.floor_ms) == (granted[5].worker, granted[5].ceiling_ms)
    assert again.ceiling_ms > again.floor_ms


async def test_a_holder_that_slept_past_its_lease_never_meets_its_successor(leases):
    """Point 15: stopped, replaced, awake again. The old holder issues nothing, cannot renew, and even ids it could have
    issued at its ceiling lie below the first of the new holder."""
    sleeper = await leases.acquire("tweets-1", 0.05)
    others = []
    for n in range(0, 1023, 33):
        others += await asyncio.gather(*(leases.acquire(f"other-{n + k}", 600.0) for k in range(33)))
    await asyncio.sleep(0.1)
    successor = await leases.acquire("tweets-1", 600.0)
    assert (successor.worker, successor.floor_ms) == (sleeper.worker, sleeper.ceiling_ms)

    awake = clock.FakeClock(wall_ms=sleeper.ceiling_ms)
    awake.advance(1e9)
    with pytest.raises(Overloaded):
        ids.Generator(sleeper, awake).try_next()
    with pytest.raises(Conflict):
        await leases.renew("tweets-1", sleeper, 60.0)
    await leases.release("tweets-1", sleeper)
    assert (await leases.renew("tweets-1", successor, 60.0)).worker == successor.worker

    fresh = clock.FakeClock(wall_ms=successor.floor_ms)
    generator = ids.Generator(dataclasses.replace(successor, deadline_ns=10**15), fresh)
    assert generator.try_next() is None
    fresh.advance(0.001)
    new_id = generator.try_next()
    assert new_id is not None
    assert new_id > ids.compose(sleeper.ceiling_ms, sleeper.worker, ids.MAX_SEQUENCE)


async def test_a_late_renewal_holds_where_nobody_took_the_number(leases):
    """A pause alone loses nothing, as long as the number was not granted again."""
    lease = await leases.acquire("a", 0.01)
    await asyncio.sleep(0.05)

    renewed = await leases.renew("a", lease, 30.0)

    assert renewed.worker == lease.worker


async def test_a_clock_ten_seconds_ahead_can_still_issue(leases):
    """The ceiling leaves room for an instance whose clock is ahead of the database's."""
    import time

    lease = await leases.acquire("a", 5.0)

    assert lease.ceiling_ms >= time.time_ns() // 1_000_000 + 14_000


async def test_the_lease_ends_here_before_it_ends_there(leases):
    """The local deadline counts from before the question."""
    import time

    before_ns = time.monotonic_ns()
    lease = await leases.acquire("a", 5.0)

    assert lease.deadline_ns - 5_000_000_000 <= time.monotonic_ns()
    assert lease.deadline_ns - 5_000_000_000 >= before_ns
