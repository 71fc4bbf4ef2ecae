"""Fixtures of the durable stores: each port once in memory, once on its real server.

The real ones live in a keyspace, a database and topics named after this process, made at the first use and dropped when the
session ends. Tests use ids and names of their own where emptying a table would be slow (Cassandra).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from system.kernel import ids, settings
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet

BOTH = ["memory", pytest.param("real", marks=pytest.mark.real)]

_sequence = itertools.count()
_prepared: dict[str, Any] = {}


def fresh_id(wall_ms: int | None = None) -> int:
    """Return an id nobody else uses, of now or of `wall_ms`."""
    number = next(_sequence)
    return ids.compose(wall_ms or time.time_ns() // 1_000_000, number >> 12 & 1023, number & 4095)


def fresh_author() -> int:
    """Return a user id nobody else uses."""
    return next(_sequence) + 1_000_000


def a_tweet(text: str = "Ada was here", author_id: int | None = None, wall_ms: int | None = None, **more: Any) -> Tweet:
    """Return a tweet with an id of its own; fields can be given."""
    tweet_id = fresh_id(wall_ms)
    author = fresh_author() if author_id is None else author_id
    return Tweet(tweet_id, author, text, ids.ms_of(tweet_id), **({"conversation_id": tweet_id} | more))


@pytest.fixture(scope="session")
def durable_settings() -> Iterator[settings.Settings]:
    """Settings of the lab that is up, in this process' own namespace; what was made is dropped at the end."""
    at = dataclasses.replace(settings.from_env(), namespace=f"t{os.getpid()}d")
    yield at
    asyncio.run(_drop_all(at))


async def _drop_all(at: settings.Settings) -> None:
    for adapter in _prepared.values():
        store = await adapter.open(at)
        await store.drop()
        await store.close()


async def opened(adapter: Any, at: settings.Settings) -> Any:
    """Open a real adapter, its tables made; skip where its server does not answer."""
    try:
        store = await adapter.open(at)
        if adapter.__name__ not in _prepared:
            await store.prepare()
            _prepared[adapter.__name__] = adapter
    except StoreUnavailable as problem:
        pytest.skip(f"no lab answers: {problem}; start one with `tweetlab up`")
    return store


@pytest.fixture
async def real_tweets(durable_settings: settings.Settings) -> AsyncIterator[Any]:
    from system.stores.cassandra_tweets import CassandraTweets

    store = await opened(CassandraTweets, durable_settings)
    yield store
    await store.close()


@pytest.fixture(params=BOTH)
def tweets(request: pytest.FixtureRequest) -> Any:
    from system.stores.memory_tweets import MemoryTweets

    return MemoryTweets() if request.param == "memory" else request.getfixturevalue("real_tweets")


@pytest.fixture
async def real_users(durable_settings: settings.Settings) -> AsyncIterator[Any]:
    from system.stores.postgres_users import PostgresUsers

    store = await opened(PostgresUsers, durable_settings)
    await store.clear()
    yield store
    await store.close()


@pytest.fixture(params=BOTH)
def users(request: pytest.FixtureRequest) -> Any:
    from system.stores.memory_users import MemoryUsers

    return MemoryUsers() if request.param == "memory" else request.getfixturevalue("real_users")


@pytest.fixture
async def real_leases(durable_settings: settings.Settings) -> AsyncIterator[Any]:
    from system.stores.postgres_leases import PostgresLeases

    store = await opened(PostgresLeases, dataclasses.replace(durable_settings, namespace=durable_settings.namespace + "l"))
    _prepared.pop("PostgresLeases")
    yield store
    await store.drop()


@pytest.fixture(params=BOTH)
def leases(request: pytest.FixtureRequest) -> Any:
    from system.stores.memory_users import MemoryLeases

    return MemoryLeases() if request.param == "memory" else request.getfixturevalue("real_leases")


@pytest.fixture
async def real_log(durable_settings: settings.Settings) -> AsyncIterator[Any]:
    from system.stores.kafka_log import KafkaLog

    store = await opened(KafkaLog, durable_settings)
    await store.clear()
    yield store
    await store.close()


@pytest.fixture(params=BOTH)
def log(request: pytest.FixtureRequest) -> Any:
    from system.stores.memory_log import MemoryLog

    return MemoryLog() if request.param == "memory" else request.getfixturevalue("real_log")


@pytest.fixture
def group() -> str:
    """A consumer group nobody else uses."""
    return f"fanout-{next(_sequence)}"


@pytest.fixture
async def real_keys(durable_settings: settings.Settings) -> AsyncIterator[Any]:
    from system.stores.postgres_keys import PostgresKeys

    store = await opened(PostgresKeys, durable_settings)
    yield store
    await store.close()


@pytest.fixture(params=BOTH)
def keys(request: pytest.FixtureRequest) -> Any:
    from system.stores.memory_keys import MemoryKeys

    return MemoryKeys() if request.param == "memory" else request.getfixturevalue("real_keys")


@pytest.fixture
async def real_media(durable_settings: settings.Settings) -> AsyncIterator[Any]:
    from system.stores.postgres_media import PostgresMedia

    store = await opened(PostgresMedia, durable_settings)
    await store.clear()
    yield store
    await store.close()


@pytest.fixture(params=BOTH)
def media(request: pytest.FixtureRequest) -> Any:
    from system.stores.memory_media import MemoryMedia

    return MemoryMedia() if request.param == "memory" else request.getfixturevalue("real_media")
