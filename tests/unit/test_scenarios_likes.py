"""Likes in the tape: of seeded tweets, each (user, tweet) once; they do not change other routes' draws."""

from __future__ import annotations

import numpy as np

from scenarios import loader, workload
from scenarios.world import population, seeded_tweets

SMALL = ["population.users=200", "population.follows={shape: pareto, mean: 10, max: 60}"]


def drawn(*changes: str) -> tuple[workload.Tape, seeded_tweets.History]:
    scenario = loader.load("first_run", [*SMALL, "objectives=[]", *changes])
    graph = population.graph_of(scenario.population, scenario.seed)
    past = seeded_tweets.generate(graph.users, scenario.population.history_tweets, scenario.seed)
    return workload.draw(scenario, graph, past), past


def test_every_like_is_of_a_seeded_tweet_and_none_is_sent_twice():
    """So every final like is known from the answers."""
    tape, past = drawn("workload.mix={home: 50, like: 50}")
    likes = tape.route == tape.routes.index("like")
    pairs = list(zip(tape.user[likes].tolist(), tape.target[likes].tolist()))

    assert len(pairs) > 900
    assert len(set(pairs)) == len(pairs)
    assert np.isin(tape.target[likes], past.tweet_ids).all()


def test_without_seeded_tweets_a_like_becomes_a_profile_read():
    """There is nothing to like."""
    tape, _ = drawn("workload.mix={home: 50, like: 50}", "population.history=0 tweets")

    assert set(tape.planned()) == {"home", "profile"}
