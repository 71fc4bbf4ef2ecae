"""The tape is a function of scenario and graph, and contains only operations that can succeed."""

import numpy as np
import pytest

from scenarios import loader, workload
from scenarios.world import population

SETS = ["workload.stages=[{for: 30 s, rate: 100/s}]", "faults=[]", "objectives=[]", "population.users=300",
        "population.follows.max=200"]


@pytest.fixture(scope="module")
def drawn():
    scenario = loader.load("first_run", SETS)
    graph = population.graph_of(scenario.population, scenario.seed)
    return scenario, graph, workload.draw(scenario, graph)


def rows(tape, name):
    return np.flatnonzero(tape.route == tape.routes.index(name))


def test_the_same_seed_draws_the_same_tape(drawn):
    """Locust and the twin replay the same operations at the same times."""
    scenario, graph, tape = drawn
    again = workload.draw(scenario, graph)

    for name in ("due_ns", "route", "user", "target", "second_page"):
        assert (getattr(tape, name) == getattr(again, name)).all()


def test_a_saved_tape_is_read_back_unchanged(drawn, tmp_path):
    """The driver's process reads the tape from an npz file."""
    tape = drawn[2]
    tape.save(tmp_path / "tape.npz")
    read = workload.load(tmp_path / "tape.npz")

    assert read.planned() == tape.planned()
    assert (read.due_ns == tape.due_ns).all()
    assert read.seed == 7


def test_poisson_arrivals_have_the_mean_and_variance_of_a_poisson_process(drawn):
    """3,000 expected; counts of 100 ms have a variance near their mean."""
    tape = drawn[2]
    counts = np.bincount(tape.due_ns // 100_000_000, minlength=300)

    assert len(tape) == pytest.approx(3000, abs=4 * 3000 ** 0.5)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.35)


def test_even_arrivals_on_a_ramp_follow_the_planned_rate_second_by_second():
    """100/s..400/s over 10 s: 115, 145, ... 385 operations."""
    scenario = loader.load("first_run", [*SETS, "workload.arrivals=even", "workload.stages=[{for: 10 s, rate: 100/s..400/s}]",
                                         "measure.warm_up=1 s"])
    tape = workload.draw(scenario, population.graph_of(scenario.population, 7))

    assert np.bincount(tape.due_ns // 10**9).tolist() == pytest.approx([115 + 30 * i for i in range(10)], abs=1)


def test_a_stage_may_have_its_own_mix():
    """Each segment has one dominant route."""
    stages = "{for: 4 s, rate: 25/s, mix: {home: 90, user_tweets: 10}}, {for: 4 s, rate: 25/s, mix: {post: 75, home: 25}}"
    scenario = loader.load("calibrate_full", ["faults=[]", f"workload.stages=[{stages}]"])
    tape = workload.draw(scenario, population.graph_of(scenario.population, scenario.seed))
    first = tape.route[tape.due_ns < 4 * 10**9]
    second = tape.route[(tape.due_ns >= 4 * 10**9) & (tape.due_ns < 8 * 10**9)]

    assert (first == tape.routes.index("home")).mean() > 0.75
    assert (second == tape.routes.index("post")).mean() > 0.55


def test_follows_are_new_unfollows_exist_and_no_edge_is_touched_twice(drawn):
    """Every edge has one known final state."""
    _, graph, tape = drawn
    made = [(int(tape.user[row]), int(tape.target[row])) for row in rows(tape, "follow")]
    ended = [(int(tape.user[row]), int(tape.target[row])) for row in rows(tape, "unfollow")]

    assert len(made) > 50 and len(ended) > 20
    assert not any(graph.follows(*edge) or edge[0] == edge[1] for edge in made)
    assert all(graph.follows(*edge) for edge in ended)
    assert len(set(made + ended)) == len(made) + len(ended)


def test_a_delete_names_an_earlier_post_of_the_same_user_once(drawn):
    """At least 3 s after the post was due; no post is deleted twice."""
    tape = drawn[2]
    deletes = rows(tape, "delete")
    posts = tape.target[deletes]

    assert len(deletes) > 10
    assert (tape.route[posts] == tape.routes.index("post")).all()
    assert (tape.user[posts] == tape.user[deletes]).all()
    assert (tape.due_ns[deletes] - tape.due_ns[posts] >= 3 * 10**9).all()
    assert len(set(posts.tolist())) == len(posts)


def test_popular_users_are_read_more_and_readers_have_another_order(drawn):
    """Users read: Zipf by number of followers. Readers: Zipf over a drawn order."""
    tape = drawn[2]
    read = tape.target[rows(tape, "user_tweets")]
    readers = np.bincount(tape.user[rows(tape, "home")], minlength=301)

    assert (read <= 30).mean() > 0.35
    assert readers.argmax() != 1
    assert readers.max() > 5 * readers[1:].mean()


def test_a_fifth_of_home_reads_continue_to_a_second_page(drawn):
    """The choice is part of the tape, so the twin makes the same."""
    tape = drawn[2]
    home = rows(tape, "home")

    assert tape.second_page[home].mean() == pytest.approx(0.2, abs=0.05)
    assert tape.second_page.sum() == tape.second_page[home].sum()


def test_where_no_follow_is_possible_a_profile_is_read_instead():
    """A complete graph has no edge left to create."""
    scenario = loader.load("first_run", [*SETS, "population.users=4", "population.follows={mean: 3, max: 3}",
                                         "workload.mix={follow: 1}"])
    tape = workload.draw(scenario, population.graph_of(scenario.population, 7))

    assert set(tape.planned()) == {"profile"}
