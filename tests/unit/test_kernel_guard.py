"""Bulkhead and breaker of a dependency, as every adapter of a store uses them."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import NotFound, StoreUnavailable
from system.kernel.policies import BreakerKnobs, BulkheadKnobs, DeadlineKnobs, Policies, TimeoutKnobs
from system.kernel.resilience.guard import Bulkhead, Guard


def guard(**knobs) -> Guard:
    return Guard("redis", Policies(**knobs))


async def fails():
    raise StoreUnavailable("Polly does not answer.", definite=False)


async def answers():
    return "a cracker"


async def test_a_full_bulkhead_refuses_definitely_after_the_time_limit():
    """One slot, taken: the second caller waits 50 ms and gets a definite error."""
    narrow = guard(bulkhead=BulkheadKnobs(redis=1), timeout=TimeoutKnobs(redis_s=0.05))
    held = asyncio.ensure_future(narrow.run(lambda: asyncio.sleep(0.3)))
    await asyncio.sleep(0)

    with pytest.raises(StoreUnavailable, match="1 calls are in flight") as refused:
        await narrow.run(answers)

    assert refused.value.definite
    await held
    assert await narrow.run(answers) == "a cracker"


async def test_waiting_callers_enter_in_order_of_arrival():
    """Two slots, six callers: never more than two inside, first come first served."""
    bulkhead, inside, peak, order = Bulkhead("redis", 2), 0, 0, []

    async def caller(number):
        nonlocal inside, peak
        await bulkhead.enter(1.0)
        inside += 1
        peak = max(peak, inside)
        order.append(number)
        await asyncio.sleep(0.01)
        inside -= 1
        bulkhead.leave()

    await asyncio.gather(*(caller(number) for number in range(6)))

    assert peak == 2 and order == [0, 1, 2, 3, 4, 5]


async def test_without_a_bound_no_caller_waits():
    """0 disables the bulkhead."""
    bulkhead = Bulkhead("redis", 0)

    assert [await bulkhead.enter(0.0) for _ in range(2_000)] == [0.0] * 2_000


async def test_consecutive_failures_open_the_breaker_for_a_while():
    """Three failures: the fourth call fails immediately with a definite error and a retry time.

    Then a trial closes it.
    """
    broken = guard(breaker=BreakerKnobs(failures=3, open_s=0.2))
    calls = []

    async def failing():
        calls.append(1)
        await fails()

    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await broken.run(failing)
    with pytest.raises(StoreUnavailable, match="3 times in a row") as refused:
        await broken.run(failing)

    assert len(calls) == 3 and refused.value.definite and 0 < refused.value.retry_after_s <= 0.2
    await asyncio.sleep(0.21)
    assert await broken.run(answers) == "a cracker"
    assert await broken.run(answers) == "a cracker"


async def test_a_disabled_breaker_lets_every_call_pass():
    """`failures` 0."""
    unprotected = guard(breaker=BreakerKnobs(failures=0))
    for _ in range(50):
        with pytest.raises(StoreUnavailable, match="Polly"):
            await unprotected.run(fails)


async def test_a_refusal_of_the_input_does_not_count_as_a_failure():
    """A store that rejects a request is available."""
    healthy = guard(breaker=BreakerKnobs(failures=2))

    async def refuses():
        raise NotFound("No such parrot.")

    for _ in range(5):
        with pytest.raises(NotFound):
            await healthy.run(refuses)
    assert await healthy.run(answers) == "a cracker"


async def test_a_cancelled_call_does_not_count_as_a_failure():
    """Cancelled calls neither open the breaker nor keep a slot."""
    patient = guard(breaker=BreakerKnobs(failures=2), bulkhead=BulkheadKnobs(redis=1))
    for _ in range(4):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(patient.run(lambda: asyncio.sleep(9)), 0.01)

    assert await patient.run(answers) == "a cracker"


def test_a_dependency_has_its_own_timeout_or_the_default():
    """`timeout.redis` 300 ms; without it `deadline.store`."""
    knobs = Policies(deadline=DeadlineKnobs(store_s=2.0), timeout=TimeoutKnobs(redis_s=0.3))

    assert (knobs.timeout_s("redis"), knobs.timeout_s("cassandra")) == (0.3, 2.0)


async def test_an_answer_to_an_earlier_call_does_not_close_an_open_breaker():
    """It was sent before the failures that opened the breaker: only the trial decides."""
    broken = guard(breaker=BreakerKnobs(failures=2, open_s=60.0))
    release = asyncio.Event()

    async def late():
        await release.wait()
        return "a cracker"

    earlier = asyncio.create_task(broken.run(late))
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await broken.run(fails)
    release.set()
    assert await earlier == "a cracker"
    with pytest.raises(StoreUnavailable, match="in a row"):
        await broken.run(answers)
