"""A warm cache as part of the seeded state: every list of every user complete, as after a day of use.

Written through the port, with the same begin and complete calls as a rebuild. The lists contain what a
rebuild would find: the newest tweets of each user and of the users they follow, the followers and the
followings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from scenarios import plan
from scenarios.world import population, seeded_tweets
from system.kernel.events import Tweet
from system.kernel.policies import TimelineKnobs
from system.ports import Entry, Kind, TimelineCache, TweetCache

MOST_USERS = plan.WARMED_USERS  # above it, the load warms the lists that it reads
CONCURRENCY = 64
BATCH = 1_000  # tweets per round trip

Int64s = NDArray[np.int64]


def lists(graph: population.Graph, past: seeded_tweets.History, cap: int) -> Iterator[tuple[Kind, int, list[Entry], int]]:
    """Yield (kind, owner, entries ascending, floor) of every list of every user."""
    order = np.argsort(past.authors, kind="stable")
    ids, starts = past.tweet_ids[order], np.searchsorted(past.authors[order], np.arange(graph.users + 2))
    own = [ids[starts[user]:starts[user + 1]] for user in range(graph.users + 1)]
    for user in range(1, graph.users + 1):
        following = graph.following_of(user)
        yield Kind.AUTHOR, user, *_tweets([user], [own[user]], cap)
        yield Kind.HOME, user, *_tweets([user, *following.tolist()], [own[user], *(own[f] for f in following)], cap)
        yield Kind.FOLLOWING, user, [Entry(int(f), 0) for f in following], 0
        yield Kind.FOLLOWERS, user, [Entry(int(f), 0) for f in graph.followers_of(user)], 0


def _tweets(authors: list[int], ids: list[Int64s], cap: int) -> tuple[list[Entry], int]:
    """Return the newest `cap` tweets, ascending, and the lowest id kept (0: there are no older ones)."""
    merged = np.concatenate(ids)
    by = np.repeat(np.asarray(authors, np.int64), [len(part) for part in ids])
    newest = np.argsort(merged, kind="stable")[-cap:]
    entries = [Entry(i, a) for i, a in zip(merged[newest].tolist(), by[newest].tolist())]
    return entries, entries[0].id if len(merged) > cap else 0


async def warm_tweets(hot: TweetCache, tweets: Iterable[Tweet]) -> int:
    """Cache every tweet as a hot tweet; return how many."""
    count, source = 0, iter(tweets)
    while batch := list(islice(source, BATCH)):
        await hot.fill(batch)
        count += len(batch)
    return count


async def warm(cache: TimelineCache, graph: population.Graph, past: seeded_tweets.History, knobs: TimelineKnobs) -> int:
    """Make every list complete in an empty cache; return how many. Existing lists are left alone.

    Does nothing and returns 0 above MOST_USERS users.
    """
    if graph.users > MOST_USERS:
        return 0
    slots, made = asyncio.Semaphore(CONCURRENCY), 0

    async def fill(kind: Kind, owner: int, entries: list[Entry], floor: int) -> None:
        nonlocal made
        try:
            token = await cache.begin(kind, owner)
            completed = token is not None and await cache.complete(kind, owner, token, entries, floor)
            made += completed
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for row in lists(graph, past, knobs.cap):
            await slots.acquire()
            group.create_task(fill(*row))
    return made
