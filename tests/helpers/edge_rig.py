"""Gateways on real stores with a stub service behind them.

Guarantees of the gateway without the rest of the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from system import bootstrap
from system.kernel import scopes, settings
from system.kernel.http import asgi
from system.services.gateway import app as gateway
from system.services.shared import signing
from tests.fakes.limits import MemoryLimits
from tests.fakes.tokens import MemoryTokens
from tests.helpers import services_rig

HOME = "/2/users/7/timelines/reverse_chronological"


@dataclass
class Gateways:
    """Running gateways. `urls`: base URL of each."""

    urls: list[str]
    session: aiohttp.ClientSession

    async def ask(self, which: int, token: str, path: str = HOME, method: str = "GET", **more: Any) -> tuple[int, dict[str, str]]:
        """Send a request to gateway number `which`; return (status, headers by lower-case name)."""
        headers = {"authorization": f"Bearer {token}"} | more.pop("headers", {})
        async with self.session.request(method, self.urls[which] + path, headers=headers, **more) as response:
            await response.read()
            return response.status, {name.lower(): value for name, value in response.headers.items()}


def token(user_id: int = 7, **changed: Any) -> str:
    """Return a token of a user with all scopes. `changed`: other claims."""
    claims = {"sub": str(user_id), "exp": time.time() + 600, "scope": scopes.ALL, "jti": f"g{user_id}.1"} | changed
    return signing.sign(claims, services_rig.SECRET)


async def _answers(call: asgi.Call) -> asgi.Answer:
    return asgi.Answer({"data": [], "meta": {"result_count": 0}})


@contextlib.asynccontextmanager
async def gateways(config: settings.Settings, count: int, **adapters: Any) -> AsyncIterator[Gateways]:
    """Run `count` gateways.

    `adapters`: factories of the adapters of each (limits, tokens); memory adapters by default.
    """
    async with contextlib.AsyncExitStack() as stack:
        stub = asgi.App("any", [("GET", HOME.replace("7", "{id}"), _answers), ("POST", "/2/tweets", _answers)], "any-1")
        url = await stack.enter_async_context(services_rig.listening(stub))
        mesh = dict.fromkeys(config.mesh, url)
        tokens, urls = MemoryTokens(), []
        for number in range(count):
            opened = {name: await adapters[name]() for name in adapters}
            for adapter in opened.values():
                stack.push_async_callback(adapter.close)
            ports = bootstrap.ports_of({"limits": MemoryLimits(), "tokens": tokens, **opened})
            built = gateway.build(replace(config, mesh=mesh, instance=f"gateway-{number}"), ports)
            urls.append(await stack.enter_async_context(services_rig.listening(built)))
        yield Gateways(urls, await stack.enter_async_context(aiohttp.ClientSession()))


class Pipe:
    """A TCP relay to a server that can stall (connections stay open, no data passes) and resume."""

    def __init__(self, host: str, port: int) -> None:
        self._target, self._open = (host, port), asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""

    async def __aenter__(self) -> Pipe:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()

    def stall(self) -> None:
        self._open.clear()

    def resume_sending(self) -> None:
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        for source, sink in ((reader, server_writer), (server_reader, writer)):
            task = asyncio.ensure_future(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await source.read(65_536):
                await self._open.wait()
                sink.write(data)
                await sink.drain()
        sink.close()
