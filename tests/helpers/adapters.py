"""Adapters opened in a namespace of the test, and a Redis that a test may kill."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest

from system.kernel import policies, settings
from system.kernel.errors import StoreUnavailable
from tests.helpers.requirements import lab_missing

BOTH = ["memory", pytest.param("real", marks=pytest.mark.real)]

SMALL = policies.Policies(  # small numbers, so that a few entries reach caps, trims and chunks
    fanout=policies.FanoutKnobs(chunk=3),
    timeline=policies.TimelineKnobs(cap=5, trim_slack=2, building_ttl_s=0.4),
)


async def opened(adapter: Any, at: settings.Settings) -> Any:
    """Open a real adapter in a clean namespace, or skip the test if its server does not answer."""
    try:
        store = await adapter.open(at)
        if hasattr(store, "prepare"):
            await store.prepare()
        await store.ready()
    except StoreUnavailable as problem:
        lab_missing(f"no lab responds: {problem}; start one with `tweetlab up`")
    await store.clear()
    return store


class OwnRedis:
    """A redis-server for one test, without persistence, that can be killed and restarted at the same address."""

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
