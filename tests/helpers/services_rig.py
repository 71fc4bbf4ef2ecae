"""The services on real stores in one process.

Every app behind a real HTTP socket, every worker's loop as a task.

There is no HAProxy: the gateway's mesh points at the apps. A rig has its own namespace beside whatever runs
in the lab, and removes it at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import jwt
import uvicorn

from system import bootstrap
from system.kernel import clock, ids, policies, scopes, settings
from system.kernel.events import Tweet
from system.platform import native
from system.ports import Ports
from system.services.fanout import worker as fanout
from system.services.gateway import app as gateway
from system.services.likes import app as likes
from system.services.likes import worker as liker
from system.services.media import app as media
from system.services.relay import worker as relay
from system.services.search import app as search
from system.services.search import worker as indexer
from system.services.shared import hosting
from system.services.timelines import app as timelines
from system.services.tweets import app as tweets
from system.services.users import app as users
from tests.helpers import described
from tweetlab import home
from tweetlab.lab.session import edge_secret_of

SECRET = "a secret of thirty-two characters!"
APPS = (users, tweets, timelines, search, media, likes)
WORKERS = (fanout, indexer, relay, liker)


def fresh_settings(knobs: policies.Policies | None = None) -> settings.Settings:
    """Return settings of the lab in this range with a unique namespace."""
    config = settings.from_env()
    edge_secret = edge_secret_of(native.Lab(home.ROOT, config.range))  # the lab's own edge serves every namespace
    return replace(config, namespace=f"t{secrets.token_hex(4)}", jwt_secret=SECRET, edge_secret=edge_secret,
                   policies=knobs or config.policies)


@contextlib.asynccontextmanager
async def stores(config: settings.Settings, names: tuple[str, ...] = tuple(bootstrap.ADAPTERS)) -> AsyncIterator[Ports]:
    """Open the ports `names` in the namespace of `config`, created before and removed afterwards."""
    opened = await bootstrap.open_ports(config, names, patience_s=10)
    adapters = list(opened.adapters)
    await asyncio.gather(*(adapter.prepare() for adapter in adapters if hasattr(adapter, "prepare")))
    try:
        await opened.ready()
        yield opened.ports
    finally:
        await asyncio.gather(*(_remove(adapter) for adapter in adapters if not hasattr(adapter, "acquire")))
        await opened.close()


async def _remove(adapter: Any) -> None:
    if hasattr(adapter, "drop") and hasattr(adapter, "prepare"):
        await adapter.drop()
    elif hasattr(adapter, "clear"):
        await adapter.clear()


@dataclass
class Rig:
    """Running services. `url`: of the gateway."""

    config: settings.Settings
    ports: Ports
    url: str = ""
    session: aiohttp.ClientSession = field(default=None)  # type: ignore[assignment]

    def token(self, user_id: int, **changed: Any) -> str:
        """Return a token of a user; `changed`: other claims."""
        now_s = int(time.time())
        claims = {"sub": str(user_id), "iat": now_s, "exp": now_s + 600, "scope": scopes.ALL, **changed}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    async def ask(self, method: str, path: str, user_id: int | None = None, **more: Any) -> tuple[int, Any, dict[str, str]]:
        """Send a request as `user_id`; return (status, JSON, headers by lower-case name)."""
        headers = dict(more.pop("headers", {}))
        if user_id is not None and "authorization" not in headers:
            headers["authorization"] = f"Bearer {self.token(user_id)}"
        async with self.session.request(method, self.url + path, headers=headers, **more) as response:
            response_headers = {name.lower(): value for name, value in response.headers.items()}
            answer = await response.json(content_type=None)
            described.check(method, path, response.status, answer)
            return response.status, answer, response_headers

    async def catch_up(self) -> None:
        """Return once the gateway accepts tokens: it has just read the revocations."""
        async def is_accepted() -> bool:
            headers = {"authorization": f"Bearer {self.token(1)}"}
            async with self.session.get(f"{self.url}/2/users/1/tweets", headers=headers) as response:
                return response.status < 500

        await until(is_accepted)

    async def people(self, *names: str) -> list[int]:
        """Sign users up directly; return their ids."""
        mark = secrets.token_hex(3)
        return [(await self.ports.users.create(f"{name}_{mark}"[:15], name, "")).id for name in names]

    async def post(self, user_id: int, text: str, media: list[str] | None = None, **more: Any) -> int:
        """Post through the API, with `media` attached; return the id."""
        body = {"text": text, **({"media": {"media_ids": media}} if media else {})}
        status, body, _ = await self.ask("POST", "/2/tweets", user_id, json=body, **more)
        assert status == 201, body
        return int(body["data"]["id"])

    async def home(self, user_id: int, query: str = "") -> list[int]:
        """Return the ids of one page of a home timeline."""
        status, body, _ = await self.ask("GET", f"/2/users/{user_id}/timelines/reverse_chronological{query}", user_id)
        assert status == 200, body
        return [int(tweet["id"]) for tweet in body.get("data", ())]


@contextlib.asynccontextmanager
async def running(config: settings.Settings, ports: Ports, apps: Iterable[Any] = APPS,
                  workers: Iterable[Any] = WORKERS) -> AsyncIterator[Rig]:
    """Run services on `ports`, and the gateway."""
    async with contextlib.AsyncExitStack() as stack:
        mesh = dict(config.mesh)
        for module in apps:
            host = hosting.Host(module.NAME, module.NEEDS, module.build, config, ports)
            mesh[module.NAME] = await stack.enter_async_context(listening(host.app))
        for module in workers:
            host = hosting.Host(module.NAME, module.NEEDS, module.build, config, ports)
            await host.open()
            stack.push_async_callback(host.close)
        url = await stack.enter_async_context(listening(gateway.build(replace(config, mesh=mesh))))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Rig(config, ports, url, session)


@contextlib.asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI application on a free port of the loopback."""
    # asyncio sets TCP_NODELAY only if a socket names its protocol; without it every response waits 40 ms for
    # an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    # As in `kernel/http/serving.py`: longer than the gateway keeps a connection, or a POST may use one that
    # closes.
    config = uvicorn.Config(app, lifespan="on", log_config=None, ws="none", access_log=False, timeout_keep_alive=75)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not task.done(), "the application did not start"
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def until(check: Callable[[], Awaitable[bool]], within_s: float = 15.0) -> None:
    """Return when `check()` holds; fail after `within_s` seconds with the stack of every task."""
    deadline_s = time.monotonic() + within_s
    while not await check():
        assert time.monotonic() < deadline_s, f"the condition was not met within {within_s} s; tasks:\n{_waiting()}"
        await asyncio.sleep(0.05)


def _waiting() -> str:
    """Return a line for each task: its coroutines, outermost first, with their line numbers."""
    lines = []
    for task in asyncio.all_tasks():
        chain: list[str] = []
        inner: Any = task.get_coro()
        while inner is not None and getattr(inner, "cr_frame", None) is not None:
            chain.append(f"{inner.__qualname__}:{inner.cr_frame.f_lineno}")
            inner = inner.cr_await
        lines.append(" > ".join(chain))
    return "\n".join(sorted(lines))


_generator = ids.Generator(ids.Lease(1000, 0, 2**62, 2**62), clock.SystemClock())


async def stored(ports: Ports, author_id: int, text: str = "once upon a time") -> Tweet:
    """Put a tweet into Cassandra alone: durable, not yet fanned out."""
    tweet_id = await _generator.next(2**62)
    tweet = Tweet(tweet_id, author_id, text, ids.ms_of(tweet_id), tweet_id)
    await ports.tweets.append(tweet)
    return tweet
