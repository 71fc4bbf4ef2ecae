"""Contract of every lease store: one holder per number, and ids that never collide with earlier holders'."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from system.kernel import clock, ids
from system.kernel.errors import Conflict, Overloaded
from tests.helpers.durable_stores import durable_settings, leases, real_leases


async def test_racing_holders_get_different_numbers(leases):
    """Forty instances start at the same time."""
    granted = await asyncio.gather(*(leases.acquire(f"tweets-{n}", 30.0) for n in range(40)))

    assert len({lease.worker for lease in granted}) == 40
    assert all(0 <= lease.worker <= 1023 for lease in granted)


async def test_the_number_that_is_unused_longest_is_granted(leases):
    """A number that was just released is granted last, however long ago it was granted before."""
    first = await leases.acquire("a", 30.0)
    await leases.release("a", first)

    second = await leases.acquire("b", 30.0)
    third = await leases.acquire("c", 30.0)

    assert len({first.worker, second.worker, third.worker}) == 3


async def test_a_renewal_keeps_the_number_and_raises_the_ceiling(leases):
    """The floor stays: it identifies the grant."""
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


async def test_all_numbers_held_is_overload_until_one_is_released(leases):
    """The 1,025th holder is refused; the next one gets the released number, above its last ceiling."""
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


async def test_a_holder_paused_past_its_lease_never_collides_with_its_successor(leases):
    """Point 15: paused, replaced, resumed.

    The old holder issues nothing and cannot renew, and even ids at its ceiling are below the first id of the
    new holder.
    """
    paused = await leases.acquire("tweets-1", 0.05)
    others = []
    for n in range(0, 1023, 33):
        others += await asyncio.gather(*(leases.acquire(f"other-{n + k}", 600.0) for k in range(33)))
    await asyncio.sleep(0.1)
    successor = await leases.acquire("tweets-1", 600.0)
    assert (successor.worker, successor.floor_ms) == (paused.worker, paused.ceiling_ms)

    resumed = clock.FakeClock(wall_ms=paused.ceiling_ms)
    resumed.advance(1e9)
    with pytest.raises(Overloaded):
        ids.Generator(paused, resumed).try_next()
    with pytest.raises(Conflict):
        await leases.renew("tweets-1", paused, 60.0)
    await leases.release("tweets-1", paused)
    assert (await leases.renew("tweets-1", successor, 60.0)).worker == successor.worker

    fresh = clock.FakeClock(wall_ms=successor.floor_ms)
    generator = ids.Generator(dataclasses.replace(successor, deadline_ns=10**15), fresh)
    assert generator.try_next() is None
    fresh.advance(0.001)
    new_id = generator.try_next()
    assert new_id is not None
    assert new_id > ids.compose(paused.ceiling_ms, paused.worker, ids.MAX_SEQUENCE)


async def test_a_late_renewal_succeeds_if_the_number_was_not_granted_again(leases):
    """A pause alone loses nothing."""
    lease = await leases.acquire("a", 0.01)
    await asyncio.sleep(0.05)

    renewed = await leases.renew("a", lease, 30.0)

    assert renewed.worker == lease.worker


async def test_a_clock_ten_seconds_ahead_can_still_issue(leases):
    """The ceiling has a margin for an instance whose clock is ahead of the database's."""
    import time

    lease = await leases.acquire("a", 5.0)

    assert lease.ceiling_ms >= time.time_ns() // 1_000_000 + 14_000


async def test_the_lease_ends_locally_before_it_ends_on_the_server(leases):
    """The local deadline counts from before the request was sent."""
    import time

    before_ns = time.monotonic_ns()
    lease = await leases.acquire("a", 5.0)

    assert lease.deadline_ns - 5_000_000_000 <= time.monotonic_ns()
    assert lease.deadline_ns - 5_000_000_000 >= before_ns
