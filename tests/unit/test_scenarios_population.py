"""The population is a function of the seed, and its counts are those of the scenario."""

import numpy as np
import pytest

from scenarios import spec
from scenarios.world import population, seeded_tweets
from system.kernel import ids
from system.kernel.errors import WrongInput


def graph(users=500, mean=20.0, most=200, shape="pareto", seed=7):
    return population.generate(spec.Population(users, spec.Follows(shape, mean, most)), seed)


@pytest.mark.parametrize("shape", ["pareto", "lognormal", "even"])
def test_a_drawn_graph_has_the_mean_and_maximum_and_is_simple(shape):
    """Exactly users x mean edges, no user above the maximum, no duplicate and no self follow."""
    drawn = graph(shape=shape)
    follower, followee = drawn.pairs()

    assert drawn.edges == 10_000
    assert drawn.follower_counts().max() <= 200
    assert (follower != followee).all()
    assert len(np.unique(follower * 1000 + followee)) == 10_000


def test_the_most_followed_user_is_user_one_with_exactly_the_maximum():
    """The rank by popularity is the id."""
    counts = graph().follower_counts()

    assert counts[1] == 200
    assert (np.diff(counts[1:]) <= 0).all()


def test_follower_counts_have_a_heavy_tail():
    """Lognormal body and Pareto tail: the median is well below the mean."""
    counts = graph(users=5000, mean=40, most=2000).follower_counts()[1:]

    assert np.median(counts) < 32
    assert counts[:50].mean() > 8 * 40


def test_both_directions_hold_the_same_edges():
    """Followers and following are two indexes of one set of edges."""
    drawn = graph(users=60, mean=5, most=30)

    by_following = {(user, int(other)) for user in range(1, 61) for other in drawn.following_of(user)}
    by_followers = {(int(other), user) for user in range(1, 61) for other in drawn.followers_of(user)}

    assert by_following == by_followers
    assert all(drawn.follows(*edge) for edge in by_following)
    assert not drawn.follows(1, 1)


def test_the_same_seed_draws_the_same_graph_and_another_seed_another():
    """So a hash in the manifest identifies the graph."""
    assert graph().sha256() == graph().sha256()
    assert graph().sha256() != graph(seed=8).sha256()


@pytest.mark.parametrize(("users", "mean", "most"), [(10, 9, 9), (2, 1, 1), (300, 40, 299), (5, 0, 1)])
def test_small_and_full_graphs_are_drawn_too(users, mean, most):
    """Complete and empty graphs are possible."""
    assert graph(users=users, mean=mean, most=most).edges == users * mean


def test_a_mean_above_the_maximum_is_refused():
    """No graph has such counts."""
    with pytest.raises(WrongInput, match="mean must be at most the maximum"):
        graph(users=10, mean=8, most=5)


def test_a_graph_file_becomes_users_from_one_and_keeps_their_labels(tmp_path):
    """Comments, blank lines, commas and more columns are allowed; duplicates and self follows are dropped."""
    path = tmp_path / "list.edges"
    path.write_text("# follower followee\n\n10 99\n11,99\n% more\n10 11 0.5\n10 99\n99 99\n")

    read = population.graph_of(spec.Population(graph=path), seed=1)

    assert read.users == 3
    assert read.edges == 3
    assert read.labels.tolist() == [0, 99, 11, 10]
    assert read.followers_of(1).tolist() == [2, 3]
    assert read.summary is not None and read.summary.largest_audience == 2


@pytest.mark.parametrize(("options", "followers"), [
    ({}, [0, 1, 0]), ({"direction": "followee_follower"}, [0, 1, 0]), ({"undirected": True}, [0, 1, 1]),
])
def test_a_population_says_how_its_file_is_read(options, followers, tmp_path):
    """The keys of the population are passed to the reader; the edge 5 -> 6 shows it."""
    path = tmp_path / "one.edges"
    path.write_text("5 6\n")

    read = population.graph_of(spec.Population(graph=path, **options), seed=1)

    assert read.follower_counts().tolist() == followers
    assert read.labels.tolist()[1] == (5 if options else 6)


def test_seeded_tweets_are_unique_ordered_and_older_than_any_run():
    """Ids sort by time, spread over the days before a fixed moment."""
    past = seeded_tweets.generate(users=200, per_user=20, seed=7)

    assert len(past) == 4000
    assert (np.diff(past.tweet_ids) > 0).all()
    assert ids.ms_of(int(past.tweet_ids[-1])) < seeded_tweets.END_MS
    assert ids.worker_of(int(past.tweet_ids[0])) == 1023
    assert set(past.authors.tolist()) <= set(range(1, 201))


def test_texts_do_not_depend_on_the_slicing():
    """Texts are generated in blocks; any slice gives the same."""
    past = seeded_tweets.generate(users=500, per_user=20, seed=7)
    texts = list(past.texts(0, len(past)))

    assert list(past.texts(4090, 4110)) == texts[4090:4110]
    assert all(0 < len(text) <= 280 for text in texts)
    assert seeded_tweets.vocabulary()[:3] == ("skuvan", "poumum", "dairum")
