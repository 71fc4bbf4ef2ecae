"""Two fixtures for each port: the memory adapter and the real one, held to the same tests.

The real ones use the stores that `system.kernel.settings.from_env()` names, in a namespace of this test process, and skip
where no lab answers there.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from system.kernel import policies, settings
from system.kernel.errors import StoreUnavailable
from system.platform import packages
from tests.helpers import requirements
from tests.helpers.requirements import lab_missing

BOTH = ["memory", pytest.param("real", marks=pytest.mark.real)]
SMALL = policies.Policies(  # small numbers, so that caps, trims and chunks are met with a handful of entries
    fanout=policies.FanoutKnobs(chunk=3),
    timeline=policies.TimelineKnobs(cap=5, trim_slack=2, building_ttl_s=0.4),
)


@pytest.fixture
def real_settings() -> settings.Settings:
    """Settings of the lab that is up, in this process' own namespace, with small knobs."""
    return dataclasses.replace(settings.from_env(), namespace=f"t{os.getpid()}", policies=SMALL)


async def opened(adapter: Any, at: settings.Settings) -> Any:
    """Open a real adapter in a clean namespace, or skip where its server does not answer."""
    try:
        store = await adapter.open(at)
        if hasattr(store, "prepare"):
            await store.prepare()
        await store.ready()
    except StoreUnavailable as problem:
        lab_missing(f"no lab answers: {problem}; start one with `tweetlab up`")
    await store.clear()
    return store


@pytest.fixture(params=BOTH)
async def timelines(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from system.stores.memory_timelines import MemoryTimelines

        yield MemoryTimelines(SMALL)
        return
    from system.stores.redis_timeline import RedisTimelines

    store = await opened(RedisTimelines, real_settings)
    yield store
    await store.clear()
    await store.close()


@pytest.fixture(params=BOTH)
async def hot(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from system.stores.memory_timelines import MemoryHotTweets

        yield MemoryHotTweets()
        return
    from system.stores.redis_tweets import RedisTweets

    store = await opened(RedisTweets, real_settings)
    yield store
    await store.clear()
    await store.close()


@pytest.fixture(params=BOTH)
async def index(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from system.stores.memory_search import MemorySearch

        yield MemorySearch()
        return
    from system.stores.elastic_index import ElasticIndex

    store = await opened(ElasticIndex, real_settings)
    yield store
    await store.remove()
    await store.close()


@pytest.fixture(params=BOTH)
async def blobs(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from system.stores.memory_blobs import MemoryBlobs

        async with MemoryBlobs() as memory:
            yield memory
        return
    from system.stores.minio_blobs import MinioBlobs

    store = await opened(MinioBlobs, real_settings)
    yield store
    await store.drop()
    await store.close()


class OwnRedis:
    """A redis-server of one test, without persistence, that can be killed and started again at the same address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.51.30.1", 0))
            self.host, self.port = probe.getsockname()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            "redis-server", "--port", str(self.port), "--bind", self.host, "--save", "", "--appendonly", "no",
            "--dir", str(self._folder), stdout=asyncio.subprocess.DEVNULL)
        for _ in range(100):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(self.host, self.port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"redis-server did not listen on {self.address} within 5 s")

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


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
    """Settings that name the test's own Redis."""
    stores = dataclasses.replace(real_settings.stores, redis=own_redis.address)
    return dataclasses.replace(real_settings, stores=stores)
