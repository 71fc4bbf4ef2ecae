"""The seeded state of a lab: users, follows and history in the stores, and nothing else.

`ensure` brings it back before a run. It stops every service, empties the stores, writes the population in
bulk (COPY, batched CQL, bulk index) where it is not there untouched, and starts the services again: what a
process kept in memory is gone with it. It returns when a probe of every place has found nothing of before
(`leftovers`). What is written is a function of the scenario; its fingerprint goes into the record.
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
from scenarios.world import population, private_circle, seeded_tweets
from system import stores
from system.kernel import ids
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.policies import AutoscaleKnobs
from system.ports import User
from system.services.relay import policy as relay_policy
from system.services.search.handlers import document_of
from tweetlab.lab import leftovers
from tweetlab.lab.session import Session
from tweetlab.run import warming
from tweetlab.terminal import Screen

PASSWORD = "lab-password"  # of every seeded user; the lab listens on loopback only
PROFILE_MS = seeded_tweets.END_MS - seeded_tweets.DAYS * 86_400_000  # every user signed up before the first seeded tweet


def username(user_id: int) -> str:
    """Return the seeded name of a user."""
    return f"user{user_id}"


async def ensure(lab: Session, scenario: spec.Scenario, graph: population.Graph | None = None,
                 past: seeded_tweets.History | None = None, *, force: bool = False) -> dict[str, Any]:
    """Make the stores hold exactly the scenario's population; return its manifest.

    Where it was written before, only what runs added is taken away. `force`: write all of it again.
    """
    graph = graph or population.graph_of(scenario.population, scenario.seed)
    past = past or seeded_tweets.generate(graph.users, scenario.population.history_tweets, scenario.seed)
    circle = private_circle.circle_of(graph, scenario.population, scenario.seed)
    likes = private_circle.likes_of(circle, past, scenario.population, scenario.seed)
    manifest = manifest_of(graph, past, circle, likes)
    mark = lab.lab.paths.data_dir / "seeded.json"  # beside the data that it speaks of
    standing = json.loads(mark.read_text()) if mark.exists() else {}
    mark.unlink(missing_ok=True)
    wanted = {"sha256": manifest["sha256"], "index": _index_schema()}
    untouched = standing == wanted and not force
    if not (untouched and await _renewed(lab, circle, past, likes, whole=False)):
        await _renewed(lab, circle, past, likes, whole=True)
    mark.write_text(json.dumps(wanted))
    if scenario.population.cache == "warm" and not force:
        with lab.screen.step("warming the cache"):
            made = await warming.warm(lab.ports.timelines, graph, past, scenario.policies.timeline)
            hot = await warming.warm_tweets(lab.ports.hot, tweets_of(past)) if made else 0
        lab.screen.say(f"{made:,} cached lists, {hot:,} hot tweets")
    return manifest | {"cache": scenario.population.cache}


def announce(graph: population.Graph, screen: Screen) -> None:
    """Say in one line what a graph file held, and its hints; nothing of a drawn graph."""
    if graph.summary is not None:
        screen.say(f"graph: {graph.summary.line}")
        for hint in graph.summary.hints:
            screen.warn(f"hint: {hint}")


async def _renewed(lab: Session, circle: private_circle.Circle, past: seeded_tweets.History, likes: private_circle.Likes, *,
                   whole: bool) -> bool:
    """Bring the lab to its seeded state, tell what that took, and return whether the probe found nothing of
    before.

    `whole`: empty every store and write all of it; otherwise only take away what runs added. Raises
    StoreUnavailable where something remains after the former: it may have arrived late, so the caller may try
    again.
    """
    graph, times = circle.graph, [time.monotonic()]
    title = (f"seeding {graph.users:,} users, {graph.edges:,} follows, {len(past):,} tweets" if whole
             else "resetting to the seeded state")
    with lab.screen.step(title):
        await _lift_scaling(lab)
        async with lab.without_services():
            times.append(time.monotonic())
            since_s = time.time()
            await _all((_write if whole else _reset)(lab, circle, past, likes), _empty_edges(lab))
            await _mark_outbox(lab)
            times.append(time.monotonic())
        times.append(time.monotonic())
        left = await leftovers.found(lab, leftovers.Seeded(circle, past, likes, since_s))
        times.append(time.monotonic())
    steps = ("services stopped", "stores", "services started", "probe")
    parts = ", ".join(f"{step} {end - begin:.1f} s" for step, begin, end in zip(steps, times, times[1:]))
    lab.screen.say(f"reset in {times[-1] - times[0]:.1f} s: {parts}")
    if left and whole:
        raise StoreUnavailable(f"The reset left something behind in {len(left)} places, first {left[0]}. "
                               "Repeat the command; if it remains, remove the data: `tweetlab down --purge`.")
    for line in left:
        lab.screen.say(f"left behind, so all of it is written again: {line}")
    return not left


async def _lift_scaling(lab: Session) -> None:
    """Take down what an autoscaler added for a run that did not end as it should, and lift its quota."""
    scaling = await lab.lab.scaling()
    if scaling["on"] or scaling["quota"] is not None:
        await lab.lab.set_scaling(dataclasses.replace(lab.wanted, autoscale=AutoscaleKnobs()), None)


async def _empty_edges(lab: Session) -> None:
    """Let the CDN edges forget every picture. Their names are those of a user's uploads, so the next run uses
    them again."""
    for node in [node.name for node in await lab.lab.status() if node.kind == "nginx"]:
        await lab.lab.stop_node(node)
        try:
            await asyncio.to_thread(shutil.rmtree, leftovers.edge_cache(lab.lab, node), ignore_errors=True)
        finally:
            await lab.lab.start_node(node)


async def _mark_outbox(lab: Session) -> None:
    """Say that every row up to now is published: the outbox is empty, so the relay need not look at its last
    hour."""
    bucket = relay_policy.bucket_of(time.time_ns() // 1_000_000)
    for shard in range(relay_policy.SHARDS):
        await lab.ports.tweets.set_outbox_mark(shard, bucket)


def manifest_of(graph: population.Graph, past: seeded_tweets.History, circle: private_circle.Circle,
                likes: private_circle.Likes) -> dict[str, Any]:
    """Return users, follows, tweets, likes, protected users and the fingerprint of all of them; of what is there alone."""
    parts = {"graph": graph.sha256(), "history": past.sha256()}
    if len(circle.protected):
        parts["protected"] = hashlib.sha256(circle.protected.tobytes()).hexdigest()
    if len(likes):
        parts["likes"] = likes.sha256()
    whole = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    counts = {"protected_users": len(circle.protected), "liked": len(likes)}
    return {"users": graph.users, "follows": graph.edges, "tweets": len(past), "sha256": whole, "fingerprint": whole, **parts,
            **{name: count for name, count in counts.items() if count},
            **({"graph_file": graph.summary.as_dict()} if graph.summary is not None else {})}


def demo_login(lab: Session) -> list[str]:
    """Return lines that let a person in: addresses, a login, a curl line that works."""
    token, base_url = lab.token(1), lab.base_url
    return [
        f"web:     {base_url}/  (sign in as {username(1)} / {PASSWORD})",
        "console: bin/tweetlab console --open",
        f"token:   curl -s {base_url}/2/oauth2/token -d grant_type=password -d username={username(1)} -d password={PASSWORD}",
        f"read:    curl -s '{base_url}/2/users/1/timelines/reverse_chronological?max_results=5' "
        f"-H 'authorization: Bearer {token}'",
    ]


async def _reset(lab: Session, circle: private_circle.Circle, past: seeded_tweets.History, likes: private_circle.Likes) -> None:
    """Take away what runs added: every seeded tweet is older than `history.END_MS`, every other one newer."""
    real: Any = lab.ports  # bulk work is no promise to services, so the ports do not name it
    changed = await real.likes.all_likes() ^ set(likes.pairs())

    async def tweets() -> None:
        await real.index.forget(await real.tweets.forget_above(ids.floor_id(seeded_tweets.END_MS + 1)))
        await _recount(lab, past, likes, {tweet for tweet, _ in changed})

    await _all(tweets(), _rows(lab, circle, likes), *_others(lab))


async def _rows(lab: Session, circle: private_circle.Circle, likes: private_circle.Likes) -> None:
    """Empty PostgreSQL and write users, follows and likes into it."""
    real: Any = lab.ports
    tables = (real.users, real.keys, real.tokens, real.media, real.likes)
    await _all(*(store.clear() for store in tables))
    await write_users(lab, circle.graph.users, *circle.graph.pairs(), circle.protected)
    await real.likes.bulk_load(likes.pairs())


async def _all(*work: Awaitable[object]) -> None:
    """Do all of it, then raise the first problem: no store may still change when the services start."""
    for problem in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(problem, BaseException):
            raise problem


def _others(lab: Session) -> list[Awaitable[None]]:
    """Return what empties the stores of which nothing is seeded."""
    real: Any = lab.ports
    return [real.log.clear(), real.limits.clear(), real.blobs.clear(), forget_cache(lab)]


async def _recount(lab: Session, past: seeded_tweets.History, likes: private_circle.Likes, tweet_ids: set[int]) -> None:
    """Index the seeded ones of these tweets again with their seeded likes, newer than what a run made of them."""
    real: Any = lab.ports
    counts, version = likes.counts(), time.time_ns()
    again = [document_of(tweet, version, counts.get(tweet.id, 0)) for tweet in tweets_of(past) if tweet.id in tweet_ids] \
        if tweet_ids else []
    if again:
        await real.index.bulk_load(again)


async def _write(lab: Session, circle: private_circle.Circle, past: seeded_tweets.History, likes: private_circle.Likes) -> None:
    real: Any = lab.ports
    began = time.monotonic()
    await _all(_rows(lab, circle, likes), real.tweets.clear(), real.index.clear(), *_others(lab))
    lab.screen.say(f"PostgreSQL: users, follows and {len(likes):,} likes in {time.monotonic() - began:.1f} s")
    await _all(_tweets(lab, past), _index(lab, past, likes))


def _index_schema() -> str:
    """Return the fingerprint of the index's schema: an index of another one was removed when the lab came up."""
    return hashlib.sha256((Path(stores.__file__).parent / "elasticsearch" / "tweets.json").read_bytes()).hexdigest()


async def forget_cache(lab: Session) -> None:
    """Empty the cache."""
    client = lab.redis()
    try:
        await client.flushall()
    finally:
        await client.aclose()


async def empty(lab: Session) -> None:
    """Empty every store of the lab's namespace. What services hold in memory stays: only `ensure` ends that
    too."""
    real: Any = lab.ports
    await asyncio.gather(real.users.clear(), real.keys.clear(), real.tweets.clear(), real.index.clear(), real.log.clear(),
                         real.tokens.clear(), real.limits.clear(), real.media.clear(), real.blobs.clear(), real.likes.clear())
    await forget_cache(lab)


async def write_users(lab: Session, count: int, followers: Any, followees: Any, protected: Any = private_circle.NOBODY) -> None:
    """Write users 1..`count` and edges (parallel int64 arrays) by COPY into empty tables. One lab password for all."""
    from system.services.users import handlers

    hashed = await asyncio.to_thread(handlers.HASHER.hash, PASSWORD)
    closed = frozenset(protected.tolist())
    users = [User(n, username(n), f"User {n}", PROFILE_MS, password_hash=hashed, protected=n in closed)
             for n in range(1, count + 1)]
    real: Any = lab.ports
    await real.users.bulk_load(users, followers, followees)


def tweets_of(past: seeded_tweets.History) -> Iterator[Tweet]:
    """Yield the seeded tweets, oldest first."""
    texts = past.texts(0, len(past))
    for tweet_id, author, text in zip(past.tweet_ids.tolist(), past.authors.tolist(), texts):
        yield Tweet(tweet_id, author, text, ids.ms_of(tweet_id), tweet_id)


async def _tweets(lab: Session, past: seeded_tweets.History) -> None:
    began = time.monotonic()
    real: Any = lab.ports
    await real.tweets.bulk_load(tweets_of(past))
    lab.screen.say(f"Cassandra: {len(past):,} tweets in {time.monotonic() - began:.1f} s")


async def _index(lab: Session, past: seeded_tweets.History, likes: private_circle.Likes) -> None:
    began = time.monotonic()
    real: Any = lab.ports
    counts = likes.counts()
    await real.index.bulk_load(document_of(tweet, 1, counts.get(tweet.id, 0)) for tweet in tweets_of(past))
    lab.screen.say(f"Elasticsearch: {len(past):,} documents in {time.monotonic() - began:.1f} s")
