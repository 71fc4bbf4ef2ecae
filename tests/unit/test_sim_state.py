"""The twin's data: pages, cached lists, cache losses."""

from __future__ import annotations

import numpy as np
import pytest

from scenarios import spec
from scenarios.world import population
from sim.state import ABSENT_PUSH, AUTHOR, FOLLOWING, HOME, PAGE, Seeded, World

ANN, BOB, CYD = 1, 2, 3


@pytest.fixture
def world() -> World:
    """Bob and Cyd follow Ann; Cyd follows Bob; ten tweets each on average."""
    graph = population.from_edges(np.array([BOB, CYD, CYD]), np.array([ANN, ANN, BOB]), users=3)
    seeded = Seeded(graph, [[], [10, 40], [20, 30], []], seed=1)
    return World(seeded, start_ms=1_790_000_000_000)


def test_a_page_contains_the_newest_tweets_of_followed_users(world: World) -> None:
    """Newest first, the reader's own included."""
    assert world.page_of(CYD) == [40, 30, 20, 10]
    assert world.page_of(ANN) == [40, 10]


def test_a_push_reaches_live_timelines_only(world: World) -> None:
    """An absent timeline is not created by a push; the rebuild reads the tweet from the stores."""
    world.complete(HOME, BOB)

    world.write(ANN, 50)
    reached = world.push(50, world.followers_of(ANN))

    assert reached == 1
    assert world.live_home[BOB][0] == 50
    assert not world.is_complete(HOME, CYD)
    world.complete(HOME, CYD)
    assert world.live_home[CYD][0] == 50


def test_work_on_followers_timelines_is_that_of_the_cached_ones(world: World) -> None:
    """A push to a timeline that is not cached is one short command; a removal has nothing to rewrite there."""
    assert world.push_effort(ANN) == ABSENT_PUSH
    assert world.entries_per_follower(ANN, history=10, cap=25) == 0.0
    world.complete(HOME, BOB)  # follows one user: with their own, 20 entries
    assert world.push_effort(ANN) == pytest.approx((1.0 + ABSENT_PUSH) / 2.0)
    assert world.entries_per_follower(ANN, history=10, cap=25) == 10.0
    world.complete(HOME, CYD)  # follows two: 30 entries, of which 25 are kept
    assert world.push_effort(ANN) == 1.0
    assert world.entries_per_follower(ANN, history=10, cap=25) == 22.5
    assert world.push_effort(CYD) == 1.0  # no followers


def test_a_push_twice_is_one_tweet(world: World) -> None:
    """Events are delivered at least once."""
    world.complete(HOME, BOB)

    world.push(50, [BOB])
    world.push(50, [BOB])

    assert world.live_home[BOB].count(50) == 1


def test_a_page_never_grows_beyond_its_size(world: World) -> None:
    """The model stores only the first page."""
    world.complete(HOME, BOB)

    for tweet in range(100, 160):
        world.push(tweet, [BOB])

    assert len(world.live_home[BOB]) == PAGE
    assert world.live_home[BOB][0] == 159


def test_a_cache_loss_removes_every_list_and_tweet(world: World) -> None:
    """After it a rebuild must read one author list per followee from Cassandra."""
    world.warm()
    world.hot.add(40)
    assert world.absent_authors(CYD) == []

    world.lose_cache()

    assert not world.is_complete(HOME, CYD)
    assert not world.is_complete(FOLLOWING, CYD)
    assert sorted(world.absent_authors(CYD)) == [ANN, BOB, CYD]
    assert world.cold([40]) == [40]


def test_an_unfollow_removes_the_author_from_the_page(world: World) -> None:
    """After a rebuild the page contains no tweet of an unfollowed user."""
    world.unfollow(CYD, ANN)
    world.drop((HOME, CYD), (FOLLOWING, CYD))

    assert world.page_of(CYD) == [30, 20]
    assert world.audience(ANN) == 1


def test_a_deleted_tweet_does_not_come_back(world: World) -> None:
    """Not even from the seeded page."""
    world.write(ANN, 50)

    assert world.delete(ANN) == 50
    assert world.delete(ANN) == 0
    assert 50 not in world.page_of(BOB)


def test_a_complete_list_is_found_and_dropped(world: World) -> None:
    """A list is complete or absent."""
    world.complete(AUTHOR, ANN)
    assert world.is_complete(AUTHOR, ANN)

    world.drop((AUTHOR, ANN))

    assert not world.is_complete(AUTHOR, ANN)


def test_the_seeded_history_equals_that_of_the_stores() -> None:
    """The model uses the ids of the population, so both can be compared."""
    from scenarios.world import seeded_tweets

    people = spec.Population(users=50, follows=spec.Follows("even", 5.0, 5), history_tweets=3)
    scenario = spec.Scenario("s", "q", "e", 7, "small", people, spec.Workload("even", (), {}), None, (), (), spec.Measure())  # type: ignore[arg-type]
    graph = population.graph_of(people, 7)

    seeded = Seeded.of(scenario, graph)

    drawn = seeded_tweets.generate(50, 3, 7)
    expected = drawn.tweet_ids[drawn.authors == 1]
    assert seeded.recent[1] == expected[-PAGE:].tolist()
