"""TimelineCache: the in-memory and Redis adapters give the same results.

Seeded random operations, compared step by step.
"""

from __future__ import annotations

import dataclasses
import random

import pytest

from system.kernel import ids
from system.ports import Entry, Kind
from tests.fakes.timelines import MemoryTimelines
from tests.helpers.adapters import SMALL, opened

USERS = [1, 9, 10, 11, 99, 10**18]


class RandomRun:
    """Draws operations and runs them on both adapters. Their tokens differ, so tokens are kept in pairs."""

    def __init__(self, seed: int, memory, real) -> None:
        self.draw, self.both, self.tokens = random.Random(seed), (memory, real), {}

    def user(self) -> int:
        return self.draw.choice(USERS)

    def tweet(self) -> Entry:
        # Few milliseconds, few workers: many ties, repeats and late arrivals. The worker number represents
        # the author.
        author = self.draw.randrange(len(USERS))
        return Entry(ids.compose(1_800_000_000_000 + self.draw.randrange(6), author, 0), USERS[author])

    def kind(self) -> Kind:
        return self.draw.choice(list(Kind))

    async def call(self, name: str, *args):
        return [await getattr(store, name)(*args) for store in self.both]

    async def step(self) -> tuple[object, object]:
        operations = [self.begin, self.complete, self.complete, self.push, self.push, self.back_fill, self.chunk, self.home,
                      self.home, self.page, self.others]
        in_memory, in_redis = await self.draw.choice(operations)()
        return in_memory, in_redis

    async def begin(self):
        kind, owner = self.kind(), self.user()
        tokens = await self.call("begin", kind, owner)
        if tokens[0]:
            self.tokens[kind, owner] = tokens
        return [token is None for token in tokens]

    async def complete(self):
        if not self.tokens:
            return await self.begin()
        (kind, owner), tokens = self.draw.choice(list(self.tokens.items()))
        entries = [self.tweet() for _ in range(self.draw.randrange(9))]
        floor = self.draw.choice([0, 0, self.tweet().id])
        if kind in (Kind.FOLLOWERS, Kind.FOLLOWING):
            entries, floor = [Entry(self.user(), 0) for _ in range(6)], 0
        if kind is Kind.AUTHOR:
            entries = [entry for entry in entries if entry.author_id == owner]
        return [await store.complete(kind, owner, token, entries, floor) for store, token in zip(self.both, tokens)]

    async def push(self):
        return await self.call("push", self.tweet(), self.draw.sample(USERS, 3))

    async def back_fill(self):
        return await self.call("back_fill", self.user(), [self.tweet() for _ in range(self.draw.randrange(8))])

    async def chunk(self):
        author, entry, after = self.user(), self.tweet(), self.draw.choice([0, *USERS])
        name = self.draw.choice(["push_chunk", "remove_tweet_chunk"])
        args = (author, entry, after, None) if name == "push_chunk" else (author, entry, after)
        return [(c.status, c.last, c.pushed, c.skipped) for c in await self.call(name, *args)]

    async def home(self):
        pages = await self.call("home", self.user(), self.draw.sample(USERS, 2), self.before(), self.draw.randrange(1, 6))
        return [(p.entries, p.scanned, p.floor, p.exhausted, p.pulled, set(p.missing)) for p in pages]

    async def page(self):
        kind = self.draw.choice([Kind.HOME, Kind.AUTHOR])
        return await self.call("pages", kind, USERS, self.before(), self.draw.randrange(1, 6))

    async def others(self):
        name, args = self.draw.choice([
            ("add_own", (self.tweet(),)), ("remove_tweet", (self.tweet(), USERS)), ("drop", ([(self.kind(), self.user())],)),
            ("add_member", (Kind.FOLLOWERS, self.user(), self.user())), ("members", (Kind.FOLLOWING, self.user())),
        ])
        return await self.call(name, *args)

    def before(self) -> int | None:
        return self.draw.choice([None, self.tweet().id])


@pytest.mark.real
@pytest.mark.parametrize("seed", range(12))
async def test_memory_and_redis_agree_on_every_step_of_a_random_run(real_settings, seed: int) -> None:
    """The adapters give the same results, floors and refusals after any sequence of operations."""
    from system.stores.redis.timelines import RedisTimelines

    long_lived = dataclasses.replace(SMALL, timeline=dataclasses.replace(SMALL.timeline, building_ttl_s=60))
    real = await opened(RedisTimelines, dataclasses.replace(real_settings, policies=long_lived))
    run = RandomRun(seed, MemoryTimelines(long_lived), real)
    try:
        for user in USERS:
            for kind in Kind:
                run.tokens[kind, user] = await run.call("begin", kind, user)
        for _ in range(400):
            in_memory, in_redis = await run.step()
            assert in_memory == in_redis
    finally:
        await real.clear()
        await real.close()
