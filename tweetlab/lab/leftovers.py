"""State that a reset must not leave behind: every store and process that keeps any, each with a probe.

A reset is complete when `find` returns nothing: each store holds exactly what was seeded, and every process
that may remember more was started after the stores were emptied. Each probe compares everything that its
store contains (all tables, all topics, all keys), not a list of what a run is supposed to write, so it also
finds what is added to the system later. The places, and why each leftover is a defect of the reset or of the
system: docs/decisions/0014-a-run-owes-nothing.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenarios.world.seeded_world import World
from system.platform import native
from tweetlab.lab.session import Session


@dataclass(frozen=True)
class Seeded:
    """What the stores must hold, and nothing else.

    `since_s`: wall time (s since 1970) at which they were emptied.
    """

    world: World
    since_s: float


Probe = Callable[[Session, Seeded], Awaitable[list[str]]]


async def _users(lab: Session, seeded: Seeded) -> list[str]:
    adapters: Any = lab.ports
    world, graph = seeded.world, seeded.world.graph
    wanted = {"users": graph.users, "counters": graph.users, "follows": graph.edges, "likes": len(world.likes)}
    rows = await adapters.users.row_counts()
    wrong = [f"{table} has {count:,} rows; {wanted.get(table, 0):,} were seeded"
             for table, count in rows.items() if count != wanted.get(table, 0)]
    if wrong:
        return wrong
    followers, followees = await adapters.users.all_edges()
    pairs = graph.pairs()
    order = np.lexsort((pairs[1], pairs[0]))
    if not (np.array_equal(followers, pairs[0][order]) and np.array_equal(followees, pairs[1][order])):
        wrong.append("follows are not those that were seeded")
    if (await adapters.users.protected_users()).ids != frozenset(world.circle.protected.tolist()):
        wrong.append("protected users are not those that were seeded")
    if await adapters.likes.all_likes() != set(world.likes.pairs()):
        wrong.append("likes are not those that were seeded")
    return wrong


async def _tweets(lab: Session, seeded: Seeded) -> list[str]:
    adapters: Any = lab.ports
    past = seeded.world.past
    wanted = dict(zip(past.tweet_ids.tolist(), past.authors.tolist()))
    wrong = []
    tables = await asyncio.gather(adapters.tweets.all_ids(), adapters.tweets.all_author_ids())
    for name, rows in zip(("tweets_by_id", "tweets_by_author"), tables):
        stored = {tweet_id: author for tweet_id, author, _ in rows}
        deleted = sum(is_deleted for *_, is_deleted in rows)
        more, less = len(stored.keys() - wanted.keys()), len(wanted.keys() - stored.keys())
        if stored != wanted or deleted:
            wrong.append(f"{name} has {more:,} extra tweets, lacks {less:,}, and {deleted:,} are deleted")
    stored = adapters.tweets
    extra = {"outbox": await stored.outbox_rows(), "replies": await stored.reply_rows(), "mentions": await stored.mention_rows()}
    return wrong + [f"{table} has {rows:,} rows" for table, rows in extra.items() if rows]


async def _records(lab: Session, seeded: Seeded) -> list[str]:
    adapters: Any = lab.ports
    return [f"{topic} has {count:,} records" for topic, count in (await adapters.log.records()).items() if count]


async def _index(lab: Session, seeded: Seeded) -> list[str]:
    adapters: Any = lab.ports
    count, deleted = await adapters.index.count()
    wanted = len(seeded.world.past)
    return [] if (count, deleted) == (wanted, 0) else [
        f"{count:,} documents, {deleted:,} of them deleted; {wanted:,} were seeded"]


async def _cache(lab: Session, seeded: Seeded) -> list[str]:
    client = lab.redis()
    try:
        keys = await client.dbsize()
    finally:
        await client.aclose()
    return [f"{keys:,} keys"] if keys else []


async def _limits(lab: Session, seeded: Seeded) -> list[str]:
    adapters: Any = lab.ports
    held = await adapters.limits.held()
    return [f"{held:,} counters"] if held else []


async def _objects(lab: Session, seeded: Seeded) -> list[str]:
    adapters: Any = lab.ports
    keys = await adapters.blobs.keys()
    return [f"{len(keys):,} objects, one of them {keys[0]}"] if keys else []


async def _edges(lab: Session, seeded: Seeded) -> list[str]:
    edges = [node.name for node in await lab.lab.status() if node.kind == "nginx"]
    kept = {name: sum(path.is_file() for path in edge_cache(lab.lab, name).rglob("*")) for name in edges}
    return [f"{name} keeps {count:,} pictures" for name, count in kept.items() if count]


async def _processes(lab: Session, seeded: Seeded) -> list[str]:
    services = [node for node in await lab.lab.status() if node.role == "service"]
    old = [f"{node.name} has run since before the stores were emptied" for node in services
           if node.started_at < seeded.since_s]
    return old or [f"{node.name}: {node.health}" for node in services if node.health != "healthy"]


PROBES: dict[str, Probe] = {
    "PostgreSQL": _users, "Cassandra": _tweets, "Kafka": _records, "Elasticsearch": _index, "Redis": _cache,
    "the Redis of the limits": _limits, "MinIO": _objects, "the CDN edge": _edges, "processes": _processes,
}


def edge_cache(lab: native.Lab, node: str) -> Path:
    """Return the folder in which the edge `node` keeps pictures."""
    return lab.paths.data(node) / "cache"


async def find(lab: Session, seeded: Seeded) -> list[str]:
    """Return what remains of an earlier run, a line each, place first; empty if nothing remains."""
    results = await asyncio.gather(*(probe(lab, seeded) for probe in PROBES.values()))
    return [f"{place}: {line}" for place, lines in zip(PROBES, results) for line in lines]
