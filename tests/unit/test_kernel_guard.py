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
    """One place, taken: the second caller waits 50 ms and knows that nothing was sent."""
    narrow = guard(bulkhead=BulkheadKnobs(redis=1), timeout=TimeoutKnobs(redis_s=0.05))
    held = asyncio.ensure_future(narrow.run(lambda: asyncio.sleep(0.3)))
    await asyncio.sleep(0)

    with pytest.raises(StoreUnavailable, match="1 calls are in flight") as refused:
        await narrow.run(answers)

    assert refused.value.definite
    await held
    assert await narrow.run(answers) == "a cracker"


async def test_who_waits_gets_the_place_in_order_of_arrival():
    """Two places, six callers: never more than two inside, first come first served."""
    gate, inside, most, order = Bulkhead("redis", 2), 0, 0, []

    async def one(number):
        nonlocal inside, most
        await gate.enter(1.0)
        inside += 1
        most = max(most, inside)
        order.append(number)
        await asyncio.sleep(0.01)
        inside -= 1
        gate.leave()

    await asyncio.gather(*(one(number) for number in range(6)))

    assert most == 2 and order == [0, 1, 2, 3, 4, 5]


async def test_without_a_bound_nobody_waits():
    """0 switches the bulkhead off."""
    gate = Bulkhead("redis", 0)

    assert [await gate.enter(0.0) for _ in range(2_000)] == [0.0] * 2_000


async def test_a_dependency_that_fails_in_a_row_is_not_asked_for_a_while():
    """Three failures: the fourth call is refused at once, definitely, and told when to come back; then a trial closes it."""
    broken = guard(breaker=BreakerKnobs(failures=3, open_s=0.2))
    asked = []

    async def failing():
        asked.append(1)
        await fails()

    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await broken.run(failing)
    with pytest.raises(StoreUnavailable, match="3 times in a row") as refused:
        await broken.run(failing)

    assert len(asked) == 3 and refused.value.definite and 0 < refused.value.retry_after_s <= 0.2
    await asyncio.sleep(0.21)
    assert await broken.run(answers) == "a cracker"
    assert await broken.run(answers) == "a cracker"


async def test_a_breaker_that_is_off_asks_every_time():
    """`failures` 0."""
    stubborn = guard(breaker=BreakerKnobs(failures=0))
    for _ in range(50):
        with pytest.raises(StoreUnavailable, match="Polly"):
            await stubborn.run(fails)


async def test_an_answer_that_refuses_the_input_is_an_answer():
    """A store that says no is not a store that is away."""
    well = guard(breaker=BreakerKnobs(failures=2))

    async def refuses():
        raise NotFound("No such parrot.")

    for _ in range(5):
        with pytest.raises(NotFound):
            await well.run(refuses)
    assert await well.run(answers) == "a cracker"


async def test_a_caller_that_leaves_says_nothing_about_the_dependency():
    """Cancelled calls neither open the breaker nor keep a place."""
    patient = guard(breaker=BreakerKnobs(failures=2), bulkhead=BulkheadKnobs(redis=1))
    for _ in range(4):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(patient.run(lambda: asyncio.sleep(9)), 0.01)

    assert await patient.run(answers) == "a cracker"


def test_a_dependency_has_its_own_time_limit_or_that_of_all():
    """`timeout.redis` 300 ms; without it `deadline.store`."""
    knobs = Policies(deadline=DeadlineKnobs(store_s=2.0), timeout=TimeoutKnobs(redis_s=0.3))

    assert (knobs.timeout_s("redis"), knobs.timeout_s("cassandra")) == (0.3, 2.0)


async def test_an_answer_to_an_older_call_closes_no_open_breaker():
    """It was sent before the failures that opened it: the trial decides, a second later."""
    broken = guard(breaker=BreakerKnobs(failures=2, open_s=60.0))
    gate = asyncio.Event()

    async def late():
        await gate.wait()
        return "a cracker"

    older = asyncio.create_task(broken.run(late))
    await asyncio.sleep(0)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await broken.run(fails)
    gate.set()
    assert await older == "a cracker"
    with pytest.raises(StoreUnavailable, match="in a row"):
        await broken.run(answers)
