"""Makes the final reads of a run: stores first, API last, because API reads repair the cache.

Large sets are sampled with the seed, and the evidence states the size of the sample. A cached list is sampled
together with the data that it must match, so populations of any size can be judged. If a store does not
answer, the collection ends: the evidence then has no final reads, and what depends on them is unknown.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
import numpy as np
import pandas as pd

from chaos.evidence import canaries
from chaos.evidence.api_reads import Api
from chaos.evidence.bundle import NO_IDS, Bounds, CachedList, Canary, Evidence, Finals, Ids, RunClock, Stored, StoredPicture
from chaos.evidence.history import HOME, PROFILE, History
from chaos.fault_records import FaultRecord
from scenarios.plan import Plan
from scenarios.world import pictures, population
from system.kernel import cdn_links
from system.kernel.errors import LabError, NotFound
from system.ports import Kind, MediaState, Ports

READERS = 200     # users whose home list and page are read: most read home in the run, some follow a poster
AUTHORS = 3000    # partitions of posting authors read from Cassandra: under a second at 4,000/s
FOLLOWED = 3000   # further partitions, of authors that readers follow: home lists must match them
EDGE_USERS = 1000 # users besides the readers whose follows in PostgreSQL are read
AUDIENCES = 300   # authors whose followers in PostgreSQL are read
PAGES = 100       # users whose final home or profile pages are read through the API
LOOKUPS = 500     # tweets read by GET
LIST_LIMIT = 2000 # entries of a cached list: more than the cap of 800 plus its trim slack
ROWS_LIMIT = 2000 # newest rows of an author's partition
CONCURRENCY = 32
USERS_PAGE = 10_000
LIKED = 500       # liked tweets whose likes are read from PostgreSQL and counted by the API
PICTURES = 200    # acknowledged uploads whose bytes are read from storage: up to 40 kB each

T = TypeVar("T")
K = TypeVar("K")
Drawn = TypeVar("Drawn", int, tuple[int, int])


@dataclass(frozen=True)
class _Sample:
    """The sample of final reads, drawn once from the seed. `shown`: authors whose tweets the run read."""

    readers: list[int]
    posters: list[int]
    shown: list[int]
    edge_users: list[int]
    audiences: list[int]
    lookups: list[int]


@dataclass(frozen=True)
class System:
    """Access to the system under test. `token(user)` returns a bearer token of that user."""

    ports: Ports
    base_url: str
    token: Callable[[int], str]


@dataclass(frozen=True)
class Seeded:
    """The data that the stores held before the load started.

    `edges`: (followers, followees), int64, row by row. `tweet_ids`: int64. `authors`: of `tweet_ids`, row by
    row; None where the stores hold data of earlier runs, so that it is unknown which seeded tweets and
    accounts exist. `protected`: protected users. `likes`: (tweet, user).
    """

    edges: tuple[Ids, Ids]
    tweet_ids: Ids
    authors: Ids | None = None
    protected: Ids = field(default_factory=lambda: NO_IDS)
    likes: Iterable[tuple[int, int]] = ()


@dataclass(frozen=True)
class Load:
    """A load that has ended, and its records.

    `history`: one row per attempt. `effects`: the effect log. `quiesced`: the queues are known to be drained.
    `plan`: what the scenario plans, as labels of `scenarios.plan.WORDS`; None where no plan is known.
    """

    history: pd.DataFrame
    effects: pd.DataFrame
    clock: RunClock
    quiesced: bool
    faults: Sequence[FaultRecord] = ()
    bounds: Bounds = field(default_factory=Bounds)
    plan: Plan | None = None


async def collect(load: Load, seeded: Seeded, system: System, seed: int) -> Evidence:
    """Return the evidence of a run that has ended; its final reads are sampled by `seed`."""
    users = int(max((int(side.max()) for side in seeded.edges if len(side)), default=0))
    graph = population.from_edges(*seeded.edges, users=users)
    order = np.argsort(seeded.tweet_ids, kind="stable")
    evidence = Evidence(load.history, load.effects, None, graph, load.clock, seeded.tweet_ids[order],
                        tuple(load.faults), load.bounds, "", frozenset(seeded.protected.tolist()),
                        frozenset(seeded.likes), plan=load.plan,
                        seeded_authors=NO_IDS if seeded.authors is None else seeded.authors[order])
    seeded_users = 0 if seeded.authors is None else graph.users
    try:
        finals = await _finals(evidence, system, load.quiesced, random.Random(seed), seeded_users)
    except (LabError, aiohttp.ClientError, OSError, TimeoutError) as problem:
        return _with_finals(evidence, None, f"{type(problem).__name__}: {problem}")
    return _with_finals(evidence, finals, "")


def _with_finals(evidence: Evidence, finals: Finals | None, trouble: str) -> Evidence:
    return dataclasses.replace(evidence, finals=finals, trouble=trouble)


async def _finals(evidence: Evidence, system: System, quiesced: bool, rng: random.Random, seeded_users: int) -> Finals:
    ports, sample = system.ports, _draw_sample(evidence.history, evidence.graph, rng)
    wall_ms, at_ns = time.time_ns() // 1_000_000, time.monotonic_ns()
    following = await _read_all([*sample.readers, *sample.edge_users], lambda user: _users(ports.users.following, user))
    followers = await _read_all(sample.audiences, lambda user: _users(ports.users.followers, user))
    compared, followed = comparable(sample.readers, following, FOLLOWED, rng)
    authors = list(dict.fromkeys([*sample.posters, *sample.shown, *sample.readers, *followed]))
    lists = [*await _tweet_lists(ports, Kind.HOME, compared),
             *await _tweet_lists(ports, Kind.AUTHOR, authors),
             *await _user_lists(ports, Kind.FOLLOWING, following), *await _user_lists(ports, Kind.FOLLOWERS, followers)]
    rows = await _read_all(authors, lambda author: ports.tweets.by_author(author, None, ROWS_LIMIT))
    run_ids = sorted(set(evidence.history.acked) | set(evidence.history.deletes))
    stored = await _stored(ports, run_ids)
    await ports.index.refresh()
    searchable = frozenset(await ports.index.found(run_ids))
    liked_now = _shuffled({tweet for _, tweet in evidence.history.likes}, rng)
    liked_before = _shuffled({tweet for tweet, _ in evidence.seeded_likes}, rng)
    liked = list(dict.fromkeys([*liked_now, *liked_before]))[:LIKED]
    likers = await _read_all(liked, lambda tweet: _users(ports.likes.liking_users, tweet))
    pictures = await _pictures(ports, _shuffled(evidence.history.pictures, rng)[:PICTURES])
    expected = [user for user in sample.readers if user <= seeded_users]
    accounts = await ports.users.by_id(expected)
    pulled = frozenset(mode.author_id for mode in await ports.users.modes())
    async with Api.opened(system.base_url, system.token, evidence.may_read) as api:
        shown = await api.lookups(sample.lookups)
        like_counts = await api.like_counts(liked)
        down_to = evidence.run_floor_id
        pages = [*await api.homes(sample.readers[:PAGES], down_to), *await api.profiles(sample.posters[:PAGES], down_to)]
    return Finals(
        quiesced=quiesced, wall_ms=wall_ms, at_ns=at_ns, looked_up=frozenset(run_ids), by_id=stored,
        by_author={author: {row.id: row.deleted for row in tweets} for author, tweets in rows.items()},
        author_floors={author: tweets[-1].id if len(tweets) >= ROWS_LIMIT else 0 for author, tweets in rows.items()},
        api_tweets=shown, pages=tuple(pages), unread=api.unread, followers=followers, following=following,
        lists=tuple(lists), pulled=pulled, sample=_describe(sample, evidence, authors), searchable=searchable, pictures=pictures,
        likers=likers, like_counts=like_counts, canary=await _canary(system),
        accounts={user: user in accounts for user in expected})


def comparable(readers: Sequence[int], following: Mapping[int, frozenset[int]], most: int,
               rng: random.Random) -> tuple[list[int], list[int]]:
    """Choose the home lists to compare, and the authors whose tweets they must match: (readers, authors).

    A reader is chosen together with all authors that they follow, while the total stays within `most`
    authors. If every reader follows more authors than that, the first reader is chosen with a sample of
    `most` of them, and the list is compared in part.
    """
    chosen: list[int] = []
    authors: dict[int, None] = {}
    for reader in readers:
        new = following[reader] - authors.keys()
        if len(authors) + len(new) <= most:
            chosen.append(reader)
            authors.update(dict.fromkeys(sorted(new)))
    if not chosen and readers:
        return list(readers[:1]), rng.sample(sorted(following[readers[0]]), most)
    return chosen, list(authors)


def _draw_sample(history: History, graph: population.Graph, rng: random.Random) -> _Sample:
    users = graph.users
    posters = _shuffled({post.user for post in history.posts}, rng)
    changed = _shuffled({follower for follower, _ in history.edges}, rng)
    targets = _shuffled({author for _, author in history.edges}, rng)
    all_users = _shuffled(range(1, users + 1), rng)
    active = _shuffled({read.user for read in history.reads if read.route == HOME and read.user <= users}, rng)
    audiences_of = [graph.followers_of(poster) for poster in posters[:READERS] if poster <= users]
    reached = [int(rng.choice(followers)) for followers in audiences_of if len(followers)]
    first = [*active[:PAGES * 3 // 4], *reached[:PAGES // 4]]
    readers = list(dict.fromkeys([*first, *active[:READERS * 3 // 4], *reached, *all_users]))[:READERS]
    subjects = {read.subject for read in history.reads if read.route == PROFILE and read.subject <= users}
    shown = _shuffled(subjects, rng)
    deleted = _shuffled(history.deletes, rng)[:LOOKUPS // 4]
    lookups = [*deleted, *_shuffled(set(history.acked) - set(deleted), rng)]
    followed = np.flatnonzero(graph.follower_counts()).tolist()
    popular = rng.sample(followed, min(AUDIENCES, len(followed)))
    audiences = [*targets[:AUDIENCES // 2], *posters[:AUDIENCES // 4], *popular, *all_users]
    return _Sample(readers, posters[:AUTHORS], shown[:READERS], changed[:EDGE_USERS],
                 list(dict.fromkeys(audiences))[:AUDIENCES], lookups[:LOOKUPS])


def _shuffled(values: Iterable[Drawn], rng: random.Random) -> list[Drawn]:
    ordered = sorted(values)
    rng.shuffle(ordered)
    return ordered


def _describe(sample: _Sample, evidence: Evidence, authors: list[int]) -> str:
    history = evidence.history
    return (f"{len(sample.readers)} of {evidence.graph.users} readers, {len(authors)} author partitions, "
            f"{len(sample.lookups)} of {len(set(history.acked) | set(history.deletes))} tweets by GET, "
            f"{min(len(sample.posters), PAGES)} of {len(sample.posters)} authors' pages, {len(sample.audiences)} audiences")


async def _canary(system: System) -> Canary | None:
    """Plant canaries and check them; None where the API refused to plant them."""
    try:
        return await canaries.watch(system.base_url, system.token)
    except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
        return None


async def _pictures(ports: Ports, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], StoredPicture | None]:
    """Return the served object of each picture; None where it is not finalized or there are no bytes."""
    if not keys:
        return {}
    rows = await ports.media.get([f"{owner}_{number}" for owner, number in keys])

    async def stored(key: tuple[int, int]) -> StoredPicture | None:
        medium = rows.get(f"{key[0]}_{key[1]}")
        if medium is None or medium.state not in (MediaState.FINALISED, MediaState.ATTACHED):
            return None
        try:
            data = await ports.blobs.get(cdn_links.object_key(medium.id))
        except NotFound:
            return None
        return StoredPicture(pictures.look(data), hashlib.sha256(data).hexdigest() == medium.sha256)

    return await _read_all(keys, stored)


async def _read_all(keys: Iterable[K], read: Callable[[K], Awaitable[T]]) -> dict[K, T]:
    """Read each distinct key once, CONCURRENCY at a time; return the results by key."""
    semaphore = asyncio.Semaphore(CONCURRENCY)

    async def limited(key: K) -> T:
        async with semaphore:
            return await read(key)

    distinct = list(dict.fromkeys(keys))
    return dict(zip(distinct, await asyncio.gather(*(limited(key) for key in distinct)), strict=True))


async def _users(read: Callable[[int, int, int], Awaitable[list[int]]], user: int) -> frozenset[int]:
    """Return all followers or followees of a user, read page by page."""
    users: list[int] = []
    while True:
        page = await read(user, users[-1] if users else 0, USERS_PAGE)
        users.extend(page)
        if len(page) < USERS_PAGE:
            return frozenset(users)


async def _tweet_lists(ports: Ports, kind: Kind, owners: Sequence[int]) -> list[CachedList]:
    """Return the complete lists of `owners`. The floor of one longer than LIST_LIMIT is the last id read."""
    pages = await _read_all(owners, lambda owner: ports.timelines.page(kind, owner, None, LIST_LIMIT))
    return [CachedList(kind, owner, page.floor if page.exhausted else page.scanned,
                       tuple((entry.id, entry.author_id) for entry in page.entries))
            for owner, page in pages.items() if page is not None]


async def _user_lists(ports: Ports, kind: Kind, owners: Iterable[int]) -> list[CachedList]:
    lists = await _read_all(owners, lambda owner: ports.timelines.members(kind, owner))
    return [CachedList(kind, owner, 0, tuple((user, 0) for user in members)) for owner, members in lists.items()
            if members is not None]


async def _stored(ports: Ports, tweet_ids: Sequence[int]) -> dict[int, Stored]:
    parts = [tuple(tweet_ids[at:at + 100]) for at in range(0, len(tweet_ids), 100)]
    tweets = await _read_all(parts, ports.tweets.get)
    return {tweet.id: Stored(tweet.author_id, tweet.deleted) for part in tweets.values() for tweet in part.values()}
