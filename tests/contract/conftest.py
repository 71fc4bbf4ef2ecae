"""Fixtures for each port: the in-memory adapter and the real one, held to the same tests.

The real adapters use the stores that `system.kernel.settings.from_env()` names, in a namespace of this test
process, and skip if no lab answers there. With `pytest -m docker` these are stores in containers, which the session
starts and stops.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from system import bootstrap
from system.kernel import settings
from system.platform.install import packages
from tests.helpers import containers, requirements
from tests.helpers.adapters import BOTH, SMALL, OwnRedis, opened

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs on real stores, so that `-m docker` selects it."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("real"):
            item.add_marker(pytest.mark.docker)


@pytest.fixture(scope="session", autouse=True)
def stores_in_containers(request: pytest.FixtureRequest) -> Iterator[None]:
    """With `-m docker`, start the stores in containers and point the environment at them."""
    if request.config.option.markexpr != "docker":
        yield
        return
    with containers.stores(containers.engine_or_skip()) as stores, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWEETLAB_STORES", json.dumps(stores))
        patch.setenv(requirements.RUN, requirements.LAB)  # a store that does not answer is a failure here
        asyncio.run(bootstrap.make_database([stores["postgres"].rpartition("@")[2]], settings.DEFAULT_NAMESPACE))
        asyncio.run(bootstrap.make_schema(settings.from_env()))
        yield


@pytest.fixture
def real_settings() -> settings.Settings:
    """Settings of the running lab, in this process' own namespace, with small policy values."""
    return dataclasses.replace(settings.from_env(), namespace=f"t{os.getpid()}", policies=SMALL)


@pytest.fixture(params=BOTH)
async def timelines(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from tests.fakes.timelines import MemoryTimelines

        yield MemoryTimelines(SMALL)
        return
    from system.stores.redis.timelines import RedisTimelines

    store = await opened(RedisTimelines, real_settings)
    yield store
    await store.clear()
    await store.close()


@pytest.fixture(params=BOTH)
async def hot(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from tests.fakes.timelines import MemoryHotTweets

        yield MemoryHotTweets()
        return
    from system.stores.redis.tweets import RedisTweets

    store = await opened(RedisTweets, real_settings)
    yield store
    await store.clear()
    await store.close()


@pytest.fixture(params=BOTH)
async def index(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from tests.fakes.search import MemorySearch

        yield MemorySearch()
        return
    from system.stores.elasticsearch.index import ElasticIndex

    store = await opened(ElasticIndex, real_settings)
    yield store
    await store.remove()
    await store.close()


@pytest.fixture(params=BOTH)
async def blobs(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from tests.fakes.blobs import MemoryBlobs

        async with MemoryBlobs() as memory:
            yield memory
        return
    from system.stores.s3.blobs import MinioBlobs

    store = await opened(MinioBlobs, real_settings)
    yield store
    await store.drop()
    await store.close()


@pytest.fixture
def redis_folder(tmp_path: Path) -> Iterator[Path]:
    requirements.check(packages.REDIS)
    yield tmp_path


@pytest.fixture
async def own_redis(redis_folder: Path) -> AsyncIterator[OwnRedis]:
    server = OwnRedis(redis_folder)
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
def own_settings(real_settings: settings.Settings, own_redis: OwnRedis) -> settings.Settings:
    """Settings that use the test's own Redis."""
    stores = dataclasses.replace(real_settings.stores, redis=own_redis.address)
    return dataclasses.replace(real_settings, stores=stores)
