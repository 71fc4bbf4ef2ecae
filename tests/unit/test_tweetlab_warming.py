"""A warm cache contains what a rebuild would find."""

import asyncio

import numpy as np

from scenarios.world import population, seeded_tweets
from system.kernel.policies import TimelineKnobs
from system.ports import Kind
from tests.fakes.timelines import MemoryTimelines
from tweetlab.run import warming


def a_world():
    """Ada (1) and Bob (2) post; Cy (3) follows both."""
    graph = population.from_edges(np.array([3, 3]), np.array([1, 2]), 3)
    past = seeded_tweets.History(np.array([10, 20, 30, 40]) << 22, np.array([1, 2, 1, 2]), 7)
    return graph, past


def test_a_home_list_contains_the_newest_of_all_followees_and_its_floor():
    """Three of four are kept: the floor is the lowest of them."""
    graph, past = a_world()

    rows = {(kind, owner): (entries, floor) for kind, owner, entries, floor in warming.lists(graph, past, cap=3)}

    entries, floor = rows[Kind.HOME, 3]
    assert [(e.id >> 22, e.author_id) for e in entries] == [(20, 2), (30, 1), (40, 2)]
    assert floor == 20 << 22
    assert [e.id >> 22 for e in rows[Kind.AUTHOR, 1][0]] == [10, 30]
    assert rows[Kind.AUTHOR, 1][1] == 0
    assert [e.id for e in rows[Kind.FOLLOWERS, 2][0]] == [3]
    assert [e.id for e in rows[Kind.FOLLOWING, 3][0]] == [1, 2]


def test_every_list_is_complete_afterwards():
    """Four lists per user; a home page is a hit."""
    graph, past = a_world()
    cache = MemoryTimelines()

    made = asyncio.run(warming.warm(cache, graph, past, TimelineKnobs()))
    page = asyncio.run(cache.home(3, [], None, 10))

    assert made == 12
    assert page.missing == ()
    assert [e.id >> 22 for e in page.entries] == [40, 30, 20, 10]
