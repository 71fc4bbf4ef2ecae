"""The fixture: evidence as the collector would gather it from a simulated, correct system."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd

from chaos.evidence.bundle import CachedList, Canary, Evidence, Finals, RunClock, Stored, StoredPicture
from chaos.evidence.history import DEFAULTS, HOME, MEDIA, PROFILE, TOP_ID, Read
from chaos.fault_records import FaultRecord
from scenarios.world import population
from system.ports import Kind
from tests.mutation.world import START_MS, START_NS, Size, World


def make(seed: int, size: Size | None = None) -> Evidence:
    """Return the evidence of a run of a correct system: no invariant may find a violation in it."""
    world = World(seed, size or Size())
    end_ns = world.run()
    rng = random.Random(seed + 1)
    edges = np.array(world.seeded_edges, dtype=np.int64)
    graph = population.from_edges(edges[:, 0], edges[:, 1], users=world.size.users)
    uploads = _uploads(random.Random(seed + 2), world)
    likes = _likes(random.Random(seed + 3), world)
    frame = pd.DataFrame([*world.rows, *uploads, *likes]).drop(columns=["made"], errors="ignore")
    fault = FaultRecord("cache_loss", "redis", START_NS + 10**9, START_NS + 10**9, START_NS + 11 * 10**8,
                        START_NS + 11 * 10**8, START_NS + 2 * 10**9)
    authors = np.array([world.tweets[tweet_id].author for tweet_id in world.seeded], dtype=np.int64)
    return Evidence(frame, _effects(world), _finals(world, end_ns, rng, uploads, likes), graph,
                    RunClock(START_NS, START_MS), np.array(world.seeded, dtype=np.int64), (fault,),
                    protected=world.protected, seeded_authors=authors)


def _effects(world: World) -> pd.DataFrame:
    seeded = frozenset(world.seeded)
    rows = []
    for tweet in world.tweets.values():
        if tweet.id not in seeded:
            pulled = tweet.author in world.pulled
            rows.append({"group": "fanout", "event": str(tweet.id), "key": tweet.author, "kind": "new_tweet", "applied": True,
                         "path": "pull" if pulled else "push", "targets": 0, "at_ns": tweet.posted_ns + 2 * 10**9,
                         "wall_ms": 0, "retries": 0})
    columns = ["group", "event", "key", "kind", "applied", "path", "targets", "at_ns", "wall_ms", "retries"]
    return pd.DataFrame(rows, columns=columns)


def _uploads(rng: random.Random, world: World) -> list[dict[str, Any]]:
    """Return uploads of pictures, drawn from a random stream of their own: nothing else depends on them."""
    rows = []
    for op in range(world.size.operations, world.size.operations + 20):
        sent_ns = START_NS + rng.randrange(10**10)
        rows.append(DEFAULTS | {
            "op": op, "route": MEDIA, "user": rng.choice(world.users), "target": rng.getrandbits(62), "sent_ns": sent_ns,
            "due_ns": sent_ns, "done_ns": sent_ns + 5 * 10**7, "outcome": rng.choice(("ok", "ok", "ok", "info")),
            "body_sha": f"{rng.getrandbits(64):016x}", "session": "uploads"})
    return rows


def _likes(rng: random.Random, world: World) -> list[dict[str, Any]]:
    """Return likes of seeded tweets, each (user, tweet) once; some were never answered."""
    pairs = [(user, tweet) for user in world.users for tweet in list(world.seeded)[:10]]
    pairs = rng.sample(pairs, min(40, len(pairs)))
    rows = []
    for op, (user, tweet) in enumerate(pairs, world.size.operations + 20):
        sent_ns = START_NS + rng.randrange(10**10)
        rows.append(DEFAULTS | {
            "op": op, "route": "like", "user": user, "target": tweet, "sent_ns": sent_ns, "due_ns": sent_ns,
            "done_ns": sent_ns + 5 * 10**6, "outcome": rng.choice(("ok", "ok", "ok", "info")), "session": "likes"})
    return rows


def _likers(likes: list[dict[str, Any]], rng: random.Random) -> dict[int, frozenset[int]]:
    """Return what PostgreSQL holds: every acknowledged like, and some of those without an answer."""
    likers: dict[int, set[int]] = {row["target"]: set() for row in likes}
    for row in likes:
        if row["outcome"] == "ok" or rng.random() < 0.5:
            likers[row["target"]].add(row["user"])
    return {tweet: frozenset(users) for tweet, users in likers.items()}


def _finals(world: World, end_ns: int, rng: random.Random, uploads: list[dict[str, Any]],
            likes: list[dict[str, Any]]) -> Finals:
    run_ids = frozenset(world.tweets) - frozenset(world.seeded)
    likers = _likers(likes, rng)
    following = {user: frozenset(world.following[user]) for user in world.users}
    followers = {user: frozenset(f for f in world.users if user in following[f]) for user in world.users}
    return Finals(
        quiesced=True, wall_ms=START_MS + (end_ns - START_NS) // 1_000_000, at_ns=end_ns, looked_up=run_ids,
        by_id={t: Stored(world.tweets[t].author, world.tweets[t].deleted_ns is not None) for t in run_ids},
        by_author={user: {t: world.tweets[t].deleted_ns is not None for t in world.by_author[user]} for user in world.users},
        author_floors=dict.fromkeys(world.users, 0),
        api_tweets={t: world.tweets[t].deleted_ns is None for t in run_ids},
        pages=tuple(_pages(world, end_ns)), followers=followers, following=following,
        lists=tuple(_lists(world, end_ns, followers, following, rng)), pulled=world.pulled,
        searchable=frozenset(t for t in run_ids if world.tweets[t].deleted_ns is None),
        pictures={(row["user"], row["target"]): StoredPicture(row["body_sha"]) for row in uploads if row["outcome"] == "ok"},
        likers=likers, like_counts={tweet: len(users) for tweet, users in likers.items()},
        canary=Canary(8, (), True), accounts=dict.fromkeys(world.users, True))


def _pages(world: World, end_ns: int) -> list[Read]:
    pages = []
    for route in (HOME, PROFILE):
        for user in world.users:
            high, last = TOP_ID, False
            while not last:
                shown, low, last = world.page(route, user, user, high, end_ns)
                pages.append(Read(route, user, user, "final", end_ns, end_ns, shown,
                                  [world.tweets[t].author for t in shown], low, high, high != TOP_ID, -1))
                high = low
    return pages


def _lists(world: World, end_ns: int, followers: dict[int, frozenset[int]], following: dict[int, frozenset[int]],
           rng: random.Random) -> list[CachedList]:
    """Return the complete lists of a random half of the users, home lists with a random floor."""
    lists = []
    for user in world.users:
        if rng.random() < 0.5:
            continue
        home = sorted(t for author in following[user] - world.pulled for t in world.by_author[author]
                      if world.sees(user, t, end_ns))
        floor = rng.choice([0, *home[:5]])
        lists.append(CachedList(Kind.HOME, user, floor, tuple((t, world.tweets[t].author) for t in home if t >= floor)))
        own = [t for t in world.by_author[user] if world.tweets[t].deleted_ns is None]
        lists.append(CachedList(Kind.AUTHOR, user, 0, tuple((t, user) for t in own)))
        lists.append(CachedList(Kind.FOLLOWERS, user, 0, tuple((u, 0) for u in sorted(followers[user]))))
        lists.append(CachedList(Kind.FOLLOWING, user, 0, tuple((u, 0) for u in sorted(following[user]))))
    return lists
