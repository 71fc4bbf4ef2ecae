"""Who comes while a round is under way goes with the next one, all together."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import StoreUnavailable
from system.stores.postgres.batcher import Batcher


class Ferry:
    """A store whose rounds end when they are told to; answers each item with its double."""

    def __init__(self, lanes: int = 1, most: int = 10) -> None:
        self.rounds: list[list[int]] = []
        self.gates: list[asyncio.Event] = []
        self.sinks: set[int] = set()
        self.line = Batcher(self.cross, lambda item: item, lanes=lanes, most=most)

    async def cross(self, items):
        self.rounds.append(list(items))
        self.gates.append(asyncio.Event())
        await self.gates[-1].wait()
        if self.sinks.intersection(items):
            raise StoreUnavailable("sunk", definite=True)
        return [2 * item for item in items]

    def come(self, *items: int) -> list[asyncio.Task[int]]:
        return [asyncio.ensure_future(self.line.do(item)) for item in items]

    async def land(self, n: int) -> None:
        await _settled()
        self.gates[n].set()
        await _settled()


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_lone_call_goes_at_once_and_those_who_come_meanwhile_go_together():
    """An idle store answers without a wait; a busy one answers many for one flush."""
    ferry = Ferry()
    tasks = ferry.come(1)
    await _settled()
    tasks += ferry.come(2, 3, 4)
    await ferry.land(0)
    await ferry.land(1)
    assert ferry.rounds == [[1], [2, 3, 4]]
    assert [task.result() for task in tasks] == [2, 4, 6, 8]


async def test_two_lanes_are_under_way_at_once():
    """While one waits for the disk the next goes out."""
    ferry = Ferry(lanes=2)
    tasks = ferry.come(1, 2, 3)
    await _settled()
    assert ferry.rounds == [[1, 2, 3]]
    tasks += ferry.come(4)
    await _settled()
    assert ferry.rounds == [[1, 2, 3], [4]]
    await ferry.land(0)
    await ferry.land(1)
    assert sorted(task.result() for task in tasks) == [2, 4, 6, 8]


async def test_a_round_holds_at_most_so_many():
    """A statement has a bound; the rest goes with the round after it, in order."""
    ferry = Ferry(most=2)
    tasks = ferry.come(1, 2, 3, 4, 5)
    for n in range(3):
        await ferry.land(n)
    assert ferry.rounds == [[1, 2], [3, 4], [5]]
    assert [task.result() for task in tasks] == [2, 4, 6, 8, 10]


async def test_the_same_key_twice_goes_in_two_rounds():
    """One statement cannot touch a row twice; and the first to come is the first to go."""
    ferry = Ferry()
    tasks = ferry.come(7, 7, 8)
    await ferry.land(0)
    await ferry.land(1)
    assert ferry.rounds == [[7, 8], [7]]
    assert [task.result() for task in tasks] == [14, 14, 16]


async def test_what_a_round_raises_reaches_each_of_its_callers_and_nobody_else():
    """A store that fails once is asked again by who waits."""
    ferry = Ferry()
    ferry.sinks = {1}
    lost = ferry.come(1)
    await _settled()
    saved = ferry.come(2, 3)
    await ferry.land(0)
    await ferry.land(1)
    with pytest.raises(StoreUnavailable):
        lost[0].result()
    assert [task.result() for task in saved] == [4, 6]


async def test_who_leaves_before_the_round_begins_is_left_out_of_it():
    """Nothing is done for nobody."""
    ferry = Ferry()
    ferry.come(1)
    await _settled()
    gone, stays = ferry.come(2, 3)
    await _settled()
    gone.cancel()
    await ferry.land(0)
    await ferry.land(1)
    assert ferry.rounds == [[1], [3]]
    assert stays.result() == 6
