"""Ids: unique, sorted by time, bounded by their lease."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from system.kernel import clock as clocks
from system.kernel import ids
from system.kernel.errors import Overloaded, WrongInput

NOW_MS = 1_800_000_000_000


def new_generator(clock, worker=7, floor_ms=0, ceiling_in_ms=60_000, left_s=30.0):
    lease = ids.Lease(worker, floor_ms, clock.wall_ms() + ceiling_in_ms, clock.monotonic_ns() + int(left_s * 1e9))
    return ids.Generator(lease, clock)


def test_an_id_contains_its_time_and_its_worker():
    """41 bits of time, 10 of worker, 12 of sequence."""
    tweet_id = ids.compose(NOW_MS, 1023, 4095)

    assert ids.ms_of(tweet_id) == NOW_MS
    assert ids.worker_of(tweet_id) == 1023
    assert ids.floor_id(NOW_MS) <= tweet_id < ids.floor_id(NOW_MS + 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(min_value=-5.0, max_value=5.0), max_size=20), st.integers(1, 5_000))
def test_ids_never_collide_however_the_clock_steps(steps, burst):
    """Overflow of a millisecond and steps of the clock make the generator wait, never repeat."""
    clock = clocks.FakeClock(NOW_MS)
    generator = new_generator(clock, ceiling_in_ms=10**9, left_s=10**6)

    async def issue():
        issued = []
        for step in [0.0, *steps]:
            clock.step_wall(step)
            issued += [await generator.next(clock.monotonic_ns() + 10**15) for _ in range(burst // (len(steps) + 1) + 1)]
        return issued

    issued = asyncio.run(issue())

    assert issued == sorted(issued)
    assert len(set(issued)) == len(issued)


def test_the_next_holder_of_a_number_starts_above_the_ceiling_of_the_last():
    """A paused process resumes under an old lease; the ids that it may issue are at or below its ceiling."""
    clock = clocks.FakeClock(NOW_MS)
    paused = new_generator(clock, ceiling_in_ms=20)
    last_of_paused = paused.try_next()
    successor = new_generator(clock, floor_ms=paused.lease.ceiling_ms)

    assert successor.try_next() is None
    clock.advance(0.021)
    first_of_successor = successor.try_next()

    assert last_of_paused is not None and first_of_successor is not None
    assert first_of_successor > ids.floor_id(paused.lease.ceiling_ms + 1) - 1
    with pytest.raises(Overloaded, match="ceiling"):
        paused.try_next()


def test_an_id_is_refused_when_less_than_a_second_of_lease_is_left():
    """The refusal is definite: nothing was written."""
    clock = clocks.FakeClock(NOW_MS)
    generator = new_generator(clock, left_s=1.5)
    assert generator.try_next() is not None

    clock.advance(0.6)

    with pytest.raises(Overloaded, match="less than 1 s of lease") as refused:
        generator.try_next()
    assert refused.value.definite is True


def test_a_wait_for_the_clock_ends_at_the_deadline():
    """A clock that stepped back 10 s does not block a request with 50 ms left."""
    clock = clocks.FakeClock(NOW_MS)
    generator = new_generator(clock)
    assert generator.try_next() is not None
    clock.step_wall(-10.0)

    with pytest.raises(Overloaded, match="deadline"):
        asyncio.run(generator.next(clock.monotonic_ns() + 50_000_000))


@pytest.mark.parametrize("text", ["", "abc", "-1", "1.5", "٣", "9223372036854775808", "1" * 20, " 1"])
def test_what_is_not_an_id_is_refused_by_name(text):
    """The error names the value and the bound."""
    with pytest.raises(WrongInput, match="`tweet_id` is"):
        ids.parse(text, "tweet_id")
