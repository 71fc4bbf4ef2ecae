"""Protected users and seeded likes: drawn from the seed, exact in number, and no operation is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scenarios import loader, workload
from scenarios.world import population, private_circle, seeded_tweets
from system.kernel.errors import WrongInput

CHANGES = ["population.users=300", "population.follows={shape: pareto, mean: 12, max: 90}", "population.likes=2",
           "population.protected=30 %"]


@pytest.fixture(scope="module")
def world():
    scenario = loader.load("protected_circle", CHANGES)
    graph = population.graph_of(scenario.population, scenario.seed)
    past = seeded_tweets.generate(graph.users, scenario.population.history_tweets, scenario.seed)
    circle = private_circle.protected_users_of(graph, scenario.population, scenario.seed)
    likes = private_circle.likes_of(circle, past, scenario.population, scenario.seed)
    return scenario, circle, past, likes, workload.draw(scenario, graph, past)


def rows(tape, name):
    """Return (due, user, target) of a route."""
    picked = tape.route == tape.routes.index(name)
    return list(zip(tape.due_ns[picked].tolist(), tape.user[picked].tolist(), tape.target[picked].tolist()))


def test_likes_and_protected_users_have_the_planned_number_and_depend_on_the_seed(world):
    """Exactly 2 likes per tweet and 30 % of the users; no duplicate like."""
    scenario, circle, past, likes, _ = world
    again = private_circle.likes_of(circle, past, scenario.population, scenario.seed)
    other = private_circle.likes_of(circle, past, scenario.population, scenario.seed + 1)

    assert len(circle.protected) == 90
    assert len(likes) == len(set(likes.pairs())) == 2 * len(past) == sum(likes.counts().values())
    assert likes.sha256() == again.sha256() != other.sha256()


def test_a_seeded_like_is_of_a_tweet_that_its_user_may_read(world):
    """No user likes a tweet that is hidden from them."""
    _, circle, past, likes, _ = world
    authors = past.authors[np.searchsorted(past.tweet_ids, likes.tweets)]

    assert circle.closed[authors].any()
    assert circle.may_read(likes.users, authors).all()


def test_newer_tweets_are_liked_more():
    """So that search has something to rank by."""
    wanted = loader.load("protected_circle", CHANGES).population
    graph = population.generate(wanted, 3)
    past = seeded_tweets.generate(300, 20, 3)
    likes = private_circle.likes_of(private_circle.Circle(graph), past, wanted, 3)
    middle = past.tweet_ids[len(past) // 2]

    assert 0.6 < (likes.tweets >= middle).mean() < 0.8


def test_more_likes_than_can_be_drawn_are_refused(world):
    """The message names the value and the bound."""
    scenario, circle, past, _, _ = world

    with pytest.raises(WrongInput, match=r"population\.likes is 61 per tweet; with 300 users it must be at most 60"):
        private_circle.likes_of(circle, past, dataclasses.replace(scenario.population, likes=61.0), 1)


def test_follows_are_of_public_users_and_requests_of_protected_ones_not_followed(world):
    """So a follow certainly creates an edge, and a request certainly none."""
    _, circle, _, _, tape = world
    requests = rows(tape, "follow_request")

    assert len(requests) > 50
    assert all(circle.closed[target] and target != user and not circle.graph.follows(user, target)
               for _, user, target in requests)
    assert not any(circle.closed[target] for name in ("follow", "unfollow") for _, _, target in rows(tape, name))


def test_a_request_is_approved_at_most_once_and_not_within_three_seconds(world):
    """Every approval has its request."""
    _, _, _, _, tape = world
    requested = {(user, target): due for due, user, target in rows(tape, "follow_request")}
    approvals = rows(tape, "follow_approve")

    assert len(approvals) > 40 and len({(user, target) for _, user, target in approvals}) == len(approvals)
    assert all(due - requested[target, user] >= workload.APPROVE_AFTER_NS for due, user, target in approvals)


def test_no_operation_uses_a_tweet_that_is_hidden_from_its_user(world):
    """A correct refusal would count as an error of the run."""
    _, circle, past, likes, tape = world
    read = np.array([(user, target) for _, user, target in rows(tape, "user_tweets")])
    by_id = np.array([(user, target) for name in ("tweet", "reply", "like") for _, user, target in rows(tape, name) if target])
    authors = past.authors[np.searchsorted(past.tweet_ids, by_id[:, 1])]

    assert circle.may_read(read[:, 0], read[:, 1]).all() and circle.closed[read[:, 1]].any()
    assert circle.may_read(by_id[:, 0], authors).all() and circle.closed[authors].any()
    assert not {(target, user) for _, user, target in rows(tape, "like")} & set(likes.pairs())


def test_without_protected_users_follow_requests_become_profile_reads():
    """There is no protected user to ask."""
    mix = "workload.mix={home: 50, follow_request: 30, follow_approve: 20}"
    scenario = loader.load("protected_circle", [*CHANGES, "population.protected=0 %", mix])
    tape = workload.draw(scenario, population.graph_of(scenario.population, scenario.seed))

    assert set(tape.planned()) == {"home", "profile"}


def test_a_saved_tape_holds_the_protected_users(world, tmp_path):
    """The load process reads it back."""
    tape = world[-1]
    tape.save(tmp_path / "tape.npz")

    assert workload.load(tmp_path / "tape.npz").protected.tolist() == world[1].protected.tolist()
