"""Fixtures of the durable stores: each port once in memory, once on its real server.

The real ones live in a keyspace, a database and topics named after this process, created at first use and
dropped when the session ends. Tests use unique ids and names where emptying a table would be slow
(Cassandra).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import pkgutil
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from system.kernel import ids, settings
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from tests.helpers.requirements import lab_missing

BOTH = ["memory", pytest.param("real", marks=pytest.mark.real)]

_sequence = itertools.count()
_prepared: dict[str, Any] = {}


def fresh_id(wall_ms: int | None = None) -> int:
    """Return a unique id, of now or of `wall_ms`."""
    number = next(_sequence)
    return ids.compose(wall_ms or time.time_ns() // 1_000_000, number >> 12 & 1023, number & 4095)


def fresh_author() -> int:
    """Return a unique user id."""
    return next(_sequence) + 1_000_000


def a_tweet(text: str = "Ada was here", author_id: int | None = None, wall_ms: int | None = None, **more: Any) -> Tweet:
    """Return a tweet with a unique id. `more`: other fields."""
    tweet_id = fresh_id(wall_ms)
    author = fresh_author() if author_id is None else author_id
    return Tweet(tweet_id, author, text, ids.ms_of(tweet_id), **({"conversation_id": tweet_id} | more))


@pytest.fixture(scope="session")
def durable_settings() -> Iterator[settings.Settings]:
    """Settings of the running lab, in a namespace of this process that is dropped at the end."""
    at = dataclasses.replace(settings.from_env(), namespace=f"t{os.getpid()}d")
    yield at
    asyncio.run(_drop_all(at))


async def _drop_all(at: settings.Settings) -> None:
    for adapter in _prepared.values():
        store = await adapter.open(at)
        await store.drop()
        await store.close()


async def opened(adapter: Any, at: settings.Settings) -> Any:
    """Open a real adapter and create its tables; skip the test if its server does not answer."""
    try:
        store = await adapter.open(at)
        if adapter.__name__ not in _prepared:
            await store.prepare()
            _prepared[adapter.__name__] = adapter
    except StoreUnavailable as problem:
        lab_missing(f"no lab responds: {problem}; start one with `tweetlab up`")
    return store


def _pair(port: str, memory: str, real: str, *, emptied: bool = True) -> tuple[Any, Any]:
    """Return the fixtures `real_<port>` and `<port>`, for both adapters.

    Drivers are imported when a test needs them.
    """

    async def opened_real(durable_settings: settings.Settings) -> AsyncIterator[Any]:
        store = await opened(pkgutil.resolve_name(f"system.stores.{real}"), durable_settings)
        if emptied:
            await store.clear()
        yield store
        await store.close()

    def either(request: pytest.FixtureRequest) -> Any:
        if request.param == "real":
            return request.getfixturevalue(f"real_{port}")
        return pkgutil.resolve_name(f"tests.fakes.{memory}")()

    return pytest.fixture(opened_real), pytest.fixture(params=BOTH)(either)


real_tweets, tweets = _pair("tweets", "tweets:MemoryTweets", "cassandra.tweets:CassandraTweets", emptied=False)
real_users, users = _pair("users", "users:MemoryUsers", "postgres.users:PostgresUsers")
real_likes, likes = _pair("likes", "likes:MemoryLikes", "postgres.likes:PostgresLikes", emptied=False)
real_log, log = _pair("log", "log:MemoryLog", "kafka.log:KafkaLog")
real_keys, keys = _pair("keys", "keys:MemoryKeys", "postgres.keys:PostgresKeys", emptied=False)
real_tokens, tokens = _pair("tokens", "tokens:MemoryTokens", "postgres.tokens:PostgresTokens")
real_media, media = _pair("media", "media:MemoryMedia", "postgres.media:PostgresMedia")
_, leases = _pair("leases", "users:MemoryLeases", "postgres.leases:PostgresLeases")


@pytest.fixture
async def real_leases(durable_settings: settings.Settings) -> AsyncIterator[Any]:
    # In a separate database, since ceilings survive the emptying of the table.
    from system.stores.postgres.leases import PostgresLeases

    store = await opened(PostgresLeases, dataclasses.replace(durable_settings, namespace=durable_settings.namespace + "l"))
    _prepared.pop("PostgresLeases")
    yield store
    await store.drop()


@pytest.fixture
def group() -> str:
    """A unique consumer group."""
    return f"fanout-{next(_sequence)}"
