"""The population is a function of the seed, and its counts are what the scenario says."""

from pathlib import Path

import numpy as np
import pytest

from scenarios import history, population, spec
from system.kernel import ids
from system.kernel.errors import WrongInput

REED = Path(__file__).resolve().parents[3] / "shared" / "data" / "socfb-Reed98.edges"


def graph(users=500, mean=20.0, most=200, shape="pareto", seed=7):
    return population.generate(spec.Population(users, spec.Follows(shape, mean, most)), seed)


@pytest.mark.parametrize("shape", ["pareto", "lognormal", "even"])
def test_a_drawn_graph_keeps_mean_and_maximum_and_has_no_double_or_self_follow(shape):
    """Exactly users x mean edges; nobody above the maximum; simple."""
    drawn = graph(shape=shape)
    follower, followee = drawn.pairs()

    assert drawn.edges == 10_000
    assert drawn.follower_counts().max() <= 200
    assert (follower != followee).all()
    assert len(np.unique(follower * 1000 + followee)) == 10_000


def test_the_most_followed_user_is_user_one_with_exactly_the_maximum():
    """Popularity by rank is popularity by id."""
    counts = graph().follower_counts()

    assert counts[1] == 200
    assert (np.diff(counts[1:]) <= 0).all()


def test_follower_counts_have_a_heavy_tail():
    """Lognormal body and Pareto tail: the median lies well below the mean."""
    counts = graph(users=5000, mean=40, most=2000).follower_counts()[1:]

    assert np.median(counts) < 32
    assert counts[:50].mean() > 8 * 40


def test_both_directions_tell_the_same_edges():
    """Followers and following are one set of edges, read two ways."""
    drawn = graph(users=60, mean=5, most=30)

    by_following = {(user, int(other)) for user in range(1, 61) for other in drawn.following_of(user)}
    by_followers = {(int(other), user) for user in range(1, 61) for other in drawn.followers_of(user)}

    assert by_following == by_followers
    assert all(drawn.follows(*edge) for edge in by_following)
    assert not drawn.follows(1, 1)


def test_the_same_seed_draws_the_same_graph_and_another_seed_another():
    """The manifest's hash can name a graph."""
    assert graph().sha256() == graph().sha256()
    assert graph().sha256() != graph(seed=8).sha256()


@pytest.mark.parametrize(("users", "mean", "most"), [(10, 9, 9), (2, 1, 1), (300, 40, 299), (5, 0, 1)])
def test_small_and_full_graphs_are_drawn_too(users, mean, most):
    """Everybody may follow everybody, or nobody anybody."""
    assert graph(users=users, mean=mean, most=most).edges == users * mean


def test_a_mean_above_the_maximum_is_refused():
    """The counts must be possible."""
    with pytest.raises(WrongInput, match="mean must be at most the maximum"):
        graph(users=10, mean=8, most=5)


def test_an_edge_list_becomes_users_from_one_and_keeps_their_labels(tmp_path):
    """Comments, blank lines, commas and further columns are allowed; doubles and self follows are left out."""
    path = tmp_path / "list.edges"
    path.write_text("# who follows whom\n\n10 99\n11,99\n% more\n10 11 0.5\n10 99\n99 99\n")

    read = population.read_edges(path)

    assert read.users == 3
    assert read.edges == 3
    assert read.labels.tolist() == [0, 99, 11, 10]
    assert read.followers_of(1).tolist() == [2, 3]


@pytest.mark.parametrize("line", ["7", "7 x", "-1 4", "1.5 2", "7 99999999999999999999"])
def test_a_malformed_line_is_refused_with_its_number(tmp_path, line):
    """The third line is the wrong one."""
    path = tmp_path / "bad.edges"
    path.write_text(f"1 2\n# fine\n{line}\n3 4\n")

    with pytest.raises(WrongInput, match=r"bad\.edges, line 3: .* is not `follower followee`"):
        population.read_edges(path)


def test_an_empty_edge_list_is_refused(tmp_path):
    """A population needs at least one edge."""
    path = tmp_path / "empty.edges"
    path.write_text("# nothing\n")

    with pytest.raises(WrongInput, match="holds no edge"):
        population.read_edges(path)


@pytest.mark.skipif(not REED.exists(), reason="the Reed98 edge list is not beside this checkout (../shared/data)")
def test_the_reed98_friendships_are_962_users_with_18812_edges():
    """A real graph of students, as published."""
    read = population.read_edges(REED)

    assert (read.users, read.edges) == (962, 18_812)


def test_seeded_tweets_are_unique_ordered_and_older_than_any_run():
    """Ids sort by time, spread over the days before a fixed moment."""
    past = history.generate(users=200, per_user=20, seed=7)

    assert len(past) == 4000
    assert (np.diff(past.tweet_ids) > 0).all()
    assert ids.ms_of(int(past.tweet_ids[-1])) < history.END_MS
    assert ids.worker_of(int(past.tweet_ids[0])) == 1023
    assert set(past.authors.tolist()) <= set(range(1, 201))


def test_texts_do_not_depend_on_how_they_are_sliced():
    """A million texts are made in blocks; any slice gives the same."""
    past = history.generate(users=500, per_user=20, seed=7)
    whole = list(past.texts(0, len(past)))

    assert list(past.texts(4090, 4110)) == whole[4090:4110]
    assert all(0 < len(text) <= 280 for text in whole)
    assert history.vocabulary()[:3] == ("skuvan", "poumum", "dairum")
