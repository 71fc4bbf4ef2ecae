"""The final reads draw a cached list together with its truth, so every population can pass."""

import random
from dataclasses import replace

import pandas as pd
import pytest

from chaos import invariants
from chaos.evidence import api_reads, collect
from chaos.evidence.bundle import Canary, RunClock
from chaos.evidence.history import DEFAULTS
from scenarios import plan, spec
from scenarios.world import population, seeded_tweets
from system.kernel.policies import TimelineKnobs
from system.ports import Kind
from tests.unit.test_services_on_memory import Services
from tweetlab.run import seeding, warming

S = 10**9


async def stores_of(graph, past):
    """Return ports in memory that hold a population with every list of every user in the cache."""
    ports = Services().ports
    users = [
        seeding.User(n, seeding.username(n), f"User {n}", seeding.PROFILE_MS)
        for n in range(1, graph.users + 1)
    ]
    await ports.users.bulk_load(users, *graph.pairs())
    await ports.tweets.bulk_load(seeding.tweets_of(past))
    for kind, owner, entries, floor in warming.lists(graph, past, TimelineKnobs().cap):
        token = await ports.timelines.begin(kind, owner)
        await ports.timelines.complete(kind, owner, token, entries, floor)
    return ports


async def collected(ports, graph, past, monkeypatch):
    """Collect after a run in which 300 readers read their home; the API does not answer, the stores do."""

    async def no_canary(base_url, token):
        return Canary(0, (), False)

    monkeypatch.setattr(api_reads, "TRIES", 1)
    monkeypatch.setattr(collect.canaries, "watch", no_canary)
    rows = pd.DataFrame(
        [
            DEFAULTS
            | {
                "op": n,
                "route": "home",
                "user": 1 + n * 2,
                "sent_ns": S + n,
                "done_ns": S + n + 9,
                "outcome": "ok",
            }
            for n in range(300)
        ]
    )
    load = collect.Load(
        rows,
        pd.DataFrame(),
        RunClock(S, 1_800_000_000_000),
        quiesced=True,
        plan=frozenset({plan.CACHED_LISTS}),
    )
    seeded = collect.Seeded(graph.pairs(), past.tweet_ids, authors=past.authors)
    return await collect.collect(load, seeded, collect.System(ports, "http://127.0.0.1:9", str), seed=3)


@pytest.mark.parametrize(
    ("users", "shape", "budget"),
    [(5000, "pareto", collect.FOLLOWED), (600, "even", 20)],
    ids=["five thousand users", "everybody follows more than are read"],
)
async def test_cached_lists_of_every_population_can_pass(users, shape, budget, monkeypatch):
    """No list is drawn without its truth, even where each reader follows more authors than are read."""
    monkeypatch.setattr(collect, "FOLLOWED", budget)
    graph = population.generate(spec.Population(users=users, follows=spec.Follows(shape, 60, 500)), 5)
    past = seeded_tweets.generate(users, 1, 5)
    evidence = await collected(await stores_of(graph, past), graph, past, monkeypatch)

    [found] = invariants.judge(evidence, {"x": invariants.INVARIANTS["cached_lists_match_the_oracle"]})

    assert (found.verdict, found.violations) == (invariants.PASS, ())
    assert {cached.kind for cached in evidence.finals.lists} == set(Kind)


async def test_a_tweet_that_a_drawn_list_lacks_is_found(monkeypatch):
    """Sampling what is compared does not make the comparison blind."""
    wanted = spec.Population(users=600, follows=spec.Follows("even", 10, 20))
    graph, past = population.generate(wanted, 5), seeded_tweets.generate(600, 2, 5)
    ports = await stores_of(graph, past)
    evidence = await collected(ports, graph, past, monkeypatch)
    lists = tuple(
        replace(cached, members=cached.members[1:]) if cached.kind == Kind.HOME else cached
        for cached in evidence.finals.lists
    )

    [found] = invariants.judge(
        replace(evidence, finals=replace(evidence.finals, lists=lists)),
        {"x": invariants.INVARIANTS["cached_lists_match_the_oracle"]},
    )

    assert found.verdict == invariants.FAIL


def test_readers_are_drawn_with_all_authors_they_follow_up_to_the_budget():
    """A reader who follows more than are left is skipped; a later one who follows fewer is taken."""
    following = {
        1: frozenset({10, 11, 12}),
        2: frozenset(range(20, 40)),
        3: frozenset({11, 13}),
        4: frozenset(),
    }

    assert collect.comparable([1, 2, 3, 4], following, 5, random.Random(1)) == ([1, 3, 4], [10, 11, 12, 13])


def test_where_everybody_follows_more_than_the_budget_one_reader_is_drawn_in_part():
    """Some comparison is better than none, and its authors are among those the reader follows."""
    following = {1: frozenset(range(100)), 2: frozenset(range(50, 150))}

    readers, authors = collect.comparable([1, 2], following, 5, random.Random(1))

    assert readers == [1]
    assert len(authors) == 5 and set(authors) <= following[1]


def test_a_delivery_can_be_judged_where_nobody_read_home_during_the_run():
    """Of a large population, final pages are read of users who follow the authors of the run."""
    graph = population.generate(spec.Population(users=20_000, follows=spec.Follows("even", 2, 20)), 5)
    rows = pd.DataFrame(
        [
            DEFAULTS
            | {
                "op": n,
                "route": "post",
                "user": 40 + n,
                "sent_ns": S + n,
                "done_ns": S + n + 9,
                "outcome": "ok",
                "tweet_id": 10**18 + n,
                "key": f"k{n}",
            }
            for n in range(20)
        ]
    )

    sample = collect._draw_sample(collect.History(rows), graph, random.Random(1))

    reached = {
        reader
        for reader in sample.readers[: collect.PAGES]
        if any(40 <= author < 60 for author in graph.following_of(reader))
    }
    assert len(reached) >= 15
