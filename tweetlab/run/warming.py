"""A warm cache as part of the seeded state: every list of every user complete, as after a day of use.

Written through the port, by the same begin and complete as a rebuild. What stands in the lists is what a rebuild would
find: the newest tweets of a user and of those he follows, the followers and the followings.
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

MOST_USERS = plan.WARMED_USERS  # beyond it the load warms what it touches
AT_ONCE = 64
BATCH = 1_000  # tweets a round trip

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
    """Return the newest `cap` tweets, ascending, and the floor they leave (0: nothing older exists)."""
    every = np.concatenate(ids)
    by = np.repeat(np.asarray(authors, np.int64), [len(part) for part in ids])
    newest = np.argsort(every, kind="stable")[-cap:]
    entries = [Entry(i, a) for i, a in zip(every[newest].tolist(), by[newest].tolist())]
    return entries, entries[0].id if len(every) > cap else 0


async def warm_tweets(hot: TweetCache, tweets: Iterable[Tweet]) -> int:
    """Cache every tweet as a hot one; return how many."""
    count, source = 0, iter(tweets)
    while batch := list(islice(source, BATCH)):
        await hot.fill(batch)
        count += len(batch)
    return count


async def warm(cache: TimelineCache, graph: population.Graph, past: seeded_tweets.History, knobs: TimelineKnobs) -> int:
    """Make every list complete in an empty cache; return how many. Lists that stand already are left alone."""
    if graph.users > MOST_USERS:
        return 0
    slots, made = asyncio.Semaphore(AT_ONCE), 0

    async def one(kind: Kind, owner: int, entries: list[Entry], floor: int) -> None:
        nonlocal made
        try:
            token = await cache.begin(kind, owner)
            stands = token is not None and await cache.complete(kind, owner, token, entries, floor)
            made += stands
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for each in lists(graph, past, knobs.cap):
            await slots.acquire()
            group.create_task(one(*each))
    return made
