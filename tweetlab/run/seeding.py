"""The seeded state of a lab: users, follows and history in the stores, and nothing else.

`ensure` restores it before a run. It stops every service, empties the stores, writes the population in bulk
(COPY, batched CQL, bulk index) unless it is still there, and starts the services again, so that no process
keeps state of an earlier run in memory. It returns once probes of all stores and processes find no state of
an earlier run (`leftovers`). What is written is a function of the scenario; the record keeps its fingerprint.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

from scenarios import spec
from scenarios.world import population, private_circle, seeded_tweets, seeded_world
from scenarios.world.seeded_world import World
from system import stores
from system.kernel import ids
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.policies import AutoscaleKnobs
from system.ports import Document, User
from system.services.relay import policy as relay_policy
from tweetlab.lab import leftovers
from tweetlab.lab.session import Session
from tweetlab.run import warming
from tweetlab.terminal import Screen

PASSWORD = "lab-password"  # of every seeded user; the lab listens on loopback only
PROFILE_MS = seeded_tweets.END_MS - seeded_tweets.DAYS * 86_400_000  # every user signed up before the first seeded tweet


def username(user_id: int) -> str:
    """Return the seeded name of a user."""
    return f"user{user_id}"


async def ensure(lab: Session, scenario: spec.Scenario, world: World | None = None, *, force: bool = False) -> dict[str, Any]:
    """Make the stores hold exactly the scenario's population; return its manifest. Safe to repeat.

    `world`: that population; None draws it. If it was written before, only what runs added is removed.
    `force`: write all of it again, and leave the cache empty.
    """
    world = world or seeded_world.draw(scenario.population, scenario.seed)
    manifest = manifest_of(world)
    mark = lab.lab.paths.data_dir / "seeded.json"  # next to the data that it describes
    seeded = json.loads(mark.read_text()) if mark.exists() else {}
    mark.unlink(missing_ok=True)
    wanted = {"sha256": manifest["sha256"], "index": _index_schema()}
    untouched = seeded == wanted and not force
    if not (untouched and await _restore(lab, world, rewrite=False)):
        await _restore(lab, world, rewrite=True)
    mark.write_text(json.dumps(wanted))
    if scenario.population.cache == "warm" and not force:
        with lab.screen.step("warming the cache"):
            lists = await warming.warm(lab.ports.timelines, world.graph, world.past, scenario.policies.timeline)
            hot = await warming.warm_tweets(lab.ports.hot, tweets_of(world.past)) if lists else 0
        lab.screen.say(f"{lists:,} cached lists, {hot:,} hot tweets")
    return manifest | {"cache": scenario.population.cache}


def announce(graph: population.Graph, screen: Screen) -> None:
    """Show one line about what a graph file contained, and its hints; nothing for a generated graph."""
    if graph.summary is not None:
        screen.say(f"graph: {graph.summary.line}")
        for hint in graph.summary.hints:
            screen.warn(f"hint: {hint}")


async def _restore(lab: Session, world: World, *, rewrite: bool) -> bool:
    """Bring the lab to its seeded state and show how long each step took.

    Return whether the probes found no state of an earlier run.

    `rewrite`: empty every store and write all of it; otherwise only remove what runs added. Raises
    StoreUnavailable if something remains after a rewrite: it may have arrived late, so the caller may retry.
    """
    graph, times = world.graph, [time.monotonic()]
    title = (f"seeding {graph.users:,} users, {graph.edges:,} follows, {len(world.past):,} tweets" if rewrite
             else "resetting to the seeded state")
    with lab.screen.step(title):
        await _lift_scaling(lab)
        async with lab.without_services():
            times.append(time.monotonic())
            since_s = time.time()
            await _all((_write if rewrite else _reset)(lab, world), _empty_edges(lab))
            await _mark_outbox(lab)
            times.append(time.monotonic())
        times.append(time.monotonic())
        left = await leftovers.find(lab, leftovers.Seeded(world, since_s))
        times.append(time.monotonic())
    steps = ("services stopped", "stores", "services started", "probe")
    parts = ", ".join(f"{step} {end - begin:.1f} s" for step, begin, end in zip(steps, times, times[1:]))
    lab.screen.say(f"reset in {times[-1] - times[0]:.1f} s: {parts}")
    if left and rewrite:
        raise StoreUnavailable(f"The reset left something behind in {len(left)} places, first {left[0]}. "
                               "Repeat the command; if it remains, remove the data: `tweetlab down --purge`.")
    for line in left:
        lab.screen.say(f"left behind by an earlier run, so everything is written again: {line}")
    return not left


async def _lift_scaling(lab: Session) -> None:
    """Remove the CPU quota, and the instances that the autoscaler added, of a run that ended abnormally."""
    scaling = await lab.lab.scaling()
    if scaling["on"] or scaling["quota"] is not None:
        await lab.lab.set_scaling(dataclasses.replace(lab.wanted, autoscale=AutoscaleKnobs()), None)


async def _empty_edges(lab: Session) -> None:
    """Empty the caches of the CDN edges: the next run uses the same picture names."""
    for node in [node.name for node in await lab.lab.status() if node.kind == "nginx"]:
        await lab.lab.stop_node(node)
        try:
            await asyncio.to_thread(shutil.rmtree, leftovers.edge_cache(lab.lab, node), ignore_errors=True)
        finally:
            await lab.lab.start_node(node)


async def _mark_outbox(lab: Session) -> None:
    """Mark the outbox as published up to now: it is empty, so the relay need not scan its last hour."""
    bucket = relay_policy.bucket_of(time.time_ns() // 1_000_000)
    for shard in range(relay_policy.SHARDS):
        await lab.ports.tweets.set_outbox_mark(shard, bucket)


def manifest_of(world: World) -> dict[str, Any]:
    """Return the counts of users, follows, tweets, likes and protected users, and the fingerprint of all of them.

    Likes and protected users are left out where there are none.
    """
    graph, past, circle, likes = world.graph, world.past, world.circle, world.likes
    parts = {"graph": graph.sha256(), "history": past.sha256()}
    if len(circle.protected):
        parts["protected"] = hashlib.sha256(circle.protected.tobytes()).hexdigest()
    if len(likes):
        parts["likes"] = likes.sha256()
    fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    counts = {"protected_users": len(circle.protected), "liked": len(likes)}
    return {"users": graph.users, "follows": graph.edges, "tweets": len(past), "sha256": fingerprint, "fingerprint": fingerprint,
            **parts,
            **{name: count for name, count in counts.items() if count},
            **({"graph_file": graph.summary.as_dict()} if graph.summary is not None else {})}


def demo_login(lab: Session) -> list[str]:
    """Return lines for a first login: addresses, a user and password, working curl commands."""
    token, base_url = lab.token(1), lab.base_url
    return [
        f"web:     {base_url}/  (sign in as {username(1)} / {PASSWORD})",
        "console: bin/tweetlab console --open",
        f"token:   curl -s {base_url}/2/oauth2/token -d grant_type=password -d username={username(1)} -d password={PASSWORD}",
        f"read:    curl -s '{base_url}/2/users/1/timelines/reverse_chronological?max_results=5' "
        f"-H 'authorization: Bearer {token}'",
    ]


async def _reset(lab: Session, world: World) -> None:
    """Remove what runs added: every seeded tweet is older than `seeded_tweets.END_MS`, every other one newer."""
    adapters: Any = lab.ports  # services use no bulk operations, so the ports do not declare them
    changed = await adapters.likes.all_likes() ^ set(world.likes.pairs())

    async def tweets() -> None:
        await adapters.index.forget(await adapters.tweets.delete_above(ids.floor_id(seeded_tweets.END_MS + 1)))
        await _reindex_likes(lab, world, {tweet for tweet, _ in changed})

    await _all(tweets(), _rows(lab, world), *_others(lab))


async def _rows(lab: Session, world: World) -> None:
    """Empty PostgreSQL and write users, follows and likes into it."""
    adapters: Any = lab.ports
    tables = (adapters.users, adapters.keys, adapters.tokens, adapters.media, adapters.likes)
    await _all(*(store.clear() for store in tables))
    await write_users(lab, world.graph.users, *world.graph.pairs(), world.circle.protected)
    await adapters.likes.bulk_load(world.likes.pairs())


async def _all(*work: Awaitable[object]) -> None:
    """Await all of `work`, even after an error, so that no store changes later; raise the first error."""
    for problem in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(problem, BaseException):
            raise problem


def _others(lab: Session) -> list[Awaitable[None]]:
    """Return the operations that empty the stores into which nothing is seeded."""
    adapters: Any = lab.ports
    return [adapters.log.clear(), adapters.limits.clear(), adapters.blobs.clear(), forget_cache(lab)]


async def _reindex_likes(lab: Session, world: World, tweet_ids: set[int]) -> None:
    """Index the seeded tweets among `tweet_ids` again, with their seeded like counts and a newer version."""
    adapters: Any = lab.ports
    counts, version = world.likes.counts(), time.time_ns()
    documents = [Document(tweet, version, counts.get(tweet.id, 0)) for tweet in tweets_of(world.past)
                 if tweet.id in tweet_ids] if tweet_ids else []
    if documents:
        await adapters.index.bulk_load(documents)


async def _write(lab: Session, world: World) -> None:
    """Empty every store and write the seeded state."""
    adapters: Any = lab.ports
    began = time.monotonic()
    await _all(_rows(lab, world), adapters.tweets.clear(), adapters.index.clear(), *_others(lab))
    lab.screen.say(f"PostgreSQL: users, follows and {len(world.likes):,} likes in {time.monotonic() - began:.1f} s")
    await _all(_tweets(lab, world.past), _index(lab, world))


def _index_schema() -> str:
    """Return the fingerprint of the index's schema: an index with another schema was removed when the lab started."""
    return hashlib.sha256((Path(stores.__file__).parent / "elasticsearch" / "tweets.json").read_bytes()).hexdigest()


async def forget_cache(lab: Session) -> None:
    """Empty the cache."""
    client = lab.redis()
    try:
        await client.flushall()
    finally:
        await client.aclose()


async def empty(lab: Session) -> None:
    """Empty every store of the lab's namespace.

    State in the memory of services remains; only `ensure` clears it.
    """
    adapters: Any = lab.ports
    await asyncio.gather(
        adapters.users.clear(), adapters.keys.clear(), adapters.tweets.clear(), adapters.index.clear(), adapters.log.clear(),
        adapters.tokens.clear(), adapters.limits.clear(), adapters.media.clear(), adapters.blobs.clear(), adapters.likes.clear())
    await forget_cache(lab)


async def write_users(lab: Session, count: int, followers: Any, followees: Any, protected: Any = private_circle.NOBODY) -> None:
    """Write users 1..`count` and edges (parallel int64 arrays) by COPY into empty tables.

    All users have the same password.
    """
    from system.services.users import handlers

    hashed = await asyncio.to_thread(handlers.HASHER.hash, PASSWORD)
    closed = frozenset(protected.tolist())
    users = [User(n, username(n), f"User {n}", PROFILE_MS, password_hash=hashed, protected=n in closed)
             for n in range(1, count + 1)]
    adapters: Any = lab.ports
    await adapters.users.bulk_load(users, followers, followees)


def tweets_of(past: seeded_tweets.History) -> Iterator[Tweet]:
    """Yield the seeded tweets, oldest first."""
    texts = past.texts(0, len(past))
    for tweet_id, author, text in zip(past.tweet_ids.tolist(), past.authors.tolist(), texts):
        yield Tweet(tweet_id, author, text, ids.ms_of(tweet_id), tweet_id)


async def _tweets(lab: Session, past: seeded_tweets.History) -> None:
    began = time.monotonic()
    adapters: Any = lab.ports
    await adapters.tweets.bulk_load(tweets_of(past))
    lab.screen.say(f"Cassandra: {len(past):,} tweets in {time.monotonic() - began:.1f} s")


async def _index(lab: Session, world: World) -> None:
    began = time.monotonic()
    adapters: Any = lab.ports
    counts = world.likes.counts()
    await adapters.index.bulk_load(Document(tweet, 1, counts.get(tweet.id, 0)) for tweet in tweets_of(world.past))
    lab.screen.say(f"Elasticsearch: {len(world.past):,} documents in {time.monotonic() - began:.1f} s")
