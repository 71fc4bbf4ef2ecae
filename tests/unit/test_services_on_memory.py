"""All services on memory adapters: the same builds as in production, without a server.

Also the small HTTP layer itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from system import bootstrap
from system.kernel import settings
from system.kernel.errors import CouldNotRun, StoreUnavailable, WrongInput
from system.kernel.http import asgi
from system.services.fanout import worker as fanout
from system.services.gateway import policy as edge
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
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.keys import MemoryKeys
from tests.fakes.likes import MemoryLikeCounts, MemoryLikes
from tests.fakes.limits import MemoryLimits
from tests.fakes.log import MemoryLog
from tests.fakes.media import MemoryEdge, MemoryMedia
from tests.fakes.search import MemorySearch
from tests.fakes.timelines import MemoryHotTweets, MemoryTimelines
from tests.fakes.tokens import MemoryTokens
from tests.fakes.tweets import MemoryTweets
from tests.fakes.users import MemoryLeases, MemoryUsers
from tests.helpers.app_calls import call

APPS = (users, tweets, timelines, search, media, likes)
WORKERS = (fanout, indexer, relay, liker)


ROUTES_OF = {
    module.NAME: [(route.method, re.sub(r"{\w+}", "1", route.path)) for route in edge.ROUTES if route.service == module.NAME]
    for module in APPS
}


class Services:
    """All services by name, and their ports."""

    def __init__(self) -> None:
        self.config = settings.from_env({"TWEETLAB_JWT_SECRET": "x" * 32})
        self.ports = bootstrap.ports_of({
            "tweets": MemoryTweets(), "timelines": MemoryTimelines(), "hot": MemoryHotTweets(), "users": MemoryUsers(),
            "leases": MemoryLeases(), "keys": MemoryKeys(), "log": MemoryLog(), "index": MemorySearch(), "blobs": MemoryBlobs(),
            "media": MemoryMedia(), "edge": MemoryEdge(),
            "tokens": MemoryTokens(), "limits": MemoryLimits(), "like_counts": MemoryLikeCounts(),
        })
        self.ports = replace(self.ports, likes=MemoryLikes(self.ports.users))
        self.apps: dict[str, asgi.App] = {}

    async def ask(self, service: str, *request: Any, **more: Any) -> tuple[int, Any]:
        return await call(self.apps[service], *request, **more)

    async def home(self, user: int) -> list[str]:
        status, body = await self.ask("timelines", "GET", f"/2/users/{user}/timelines/reverse_chronological", user)
        assert status == 200, body
        return [tweet["id"] for tweet in body.get("data", ())]


@contextlib.asynccontextmanager
async def services():
    """Run everything."""
    running = Services()
    async with contextlib.AsyncExitStack() as stack:
        for module in (*APPS, *WORKERS):
            host = hosting.Host(module.NAME, module.NEEDS, module.build, running.config, running.ports)
            await host.open()
            stack.push_async_callback(host.close)
            running.apps[module.NAME] = host.app
        yield running


async def until(check, within_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not await check():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


async def test_a_tweet_travels_through_all_services():
    """Sign-up, follow, post, fan-out, home, search, delete."""
    async with services() as lab:
        body = {"username": "ann", "password": "correct horse"}
        _, ann = await lab.ask("users", "POST", "/2/users", None, body)
        _, bob = await lab.ask("users", "POST", "/2/users", None, {**body, "username": "bob"})
        ann_id, bob_id = int(ann["data"]["id"]), int(bob["data"]["id"])
        await lab.home(bob_id)
        target = {"target_user_id": str(ann_id)}
        assert (await lab.ask("users", "POST", f"/2/users/{bob_id}/following", bob_id, target))[0] == 200

        status, posted = await lab.ask("tweets", "POST", "/2/tweets", ann_id, {"text": "a walrus"})
        tweet = posted["data"]["id"]

        async def arrived() -> bool:
            _, hits = await lab.ask("search", "GET", "/2/tweets/search/recent?query=walrus", bob_id)
            return await lab.home(bob_id) == [tweet] and [hit["id"] for hit in hits.get("data", ())] == [tweet]

        assert status == 201
        assert await lab.home(ann_id) == [tweet]
        await until(arrived)
        assert (await lab.ask("tweets", "DELETE", f"/2/tweets/{tweet}", ann_id))[0] == 200
        assert await lab.home(bob_id) == []


async def test_a_service_on_the_mesh_requires_a_user():
    """The mesh does not bypass the gateway: without x-user-id there is no caller."""
    async with services() as lab:
        assert (await lab.ask("tweets", "POST", "/2/tweets", None, {"text": "x"}))[0] == 401
        assert (await lab.ask("timelines", "GET", "/2/users/1/timelines/reverse_chronological"))[0] == 401


async def test_every_service_refuses_a_request_whose_deadline_passed():
    """The deadline travels with the request: no work for a caller that has left, and the error is definite."""
    async with services() as lab:
        responses = {module.NAME: [await lab.ask(module.NAME, method, path, 1, {}, x_deadline_ms="0")
                              for method, path in ROUTES_OF[module.NAME]] for module in APPS}

    assert {status for answers in responses.values() for status, _ in answers} == {504}
    assert all("before it was started" in body["detail"] for answers in responses.values() for _, body in answers)


async def test_using_a_port_that_was_not_named_raises_with_its_name():
    """The error says where to add it."""
    ports = bootstrap.ports_of({})

    with pytest.raises(CouldNotRun, match=r"blobs\.head.*NEEDS"):
        await ports.blobs.head("key")


# ---- the HTTP kit ----------------------------------------------------------------------------------------


def app(*rows: asgi.Row) -> asgi.App:
    return asgi.App("x", rows, "x-1")


async def test_literal_segments_win_over_parameters():
    """`/2/users/me` is not a user with the id me."""
    async def named(call_: asgi.Call) -> asgi.Answer:
        return asgi.Answer(call_.params)

    async def literal(call_: asgi.Call) -> asgi.Answer:
        return asgi.Answer({"literal": True})

    routes = app(("GET", "/u/{id}", named), ("GET", "/u/me", literal))

    assert await call(routes, "GET", "/u/me") == (200, {"literal": True})
    assert await call(routes, "GET", "/u/7") == (200, {"id": "7"})
    assert (await call(routes, "GET", "/u/7/x"))[0] == 404
    assert (await call(routes, "POST", "/u/7"))[0] == 404


async def test_an_unexpected_error_is_logged_and_not_returned_to_the_caller():
    """500 without a traceback, in the API's shape."""
    async def fails(_: asgi.Call) -> asgi.Answer:
        raise RuntimeError("secret detail")

    status, body = await call(app(("GET", "/x", fails)), "GET", "/x")

    assert status == 500 and set(body) == {"title", "detail", "type", "status"}
    assert "secret" not in body["detail"]


async def test_a_slow_read_is_cancelled_and_a_slow_write_is_not():
    """Both callers get 504; the write runs to its end."""
    ended: list[str] = []

    async def slow(call_: asgi.Call) -> asgi.Answer:
        await asyncio.sleep(0.1)
        ended.append(call_.method)
        return asgi.Answer({})

    routes = app(("GET", "/x", slow), ("POST", "/x", slow))
    read, write = await call(routes, "GET", "/x", x_deadline_ms="20"), await call(routes, "POST", "/x", x_deadline_ms="20")
    await asyncio.sleep(0.2)

    assert (read[0], write[0]) == (504, 504)
    assert ended == ["POST"]


async def test_an_unavailable_store_is_503_with_retry_after():
    """`retry-after` is a header; the body says what happened."""
    async def away(_: asgi.Call) -> asgi.Answer:
        raise StoreUnavailable("Redis is away", definite=True, retry_after_s=0.2)

    assert (await call(app(("GET", "/x", away)), "GET", "/x"))[0] == 503


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"\xff", 400), (b"[" * 70_000, 413)])
async def test_a_body_that_is_invalid_json_or_too_large_is_refused(body, status):
    """4xx, before any work."""
    async def takes(call_: asgi.Call) -> asgi.Answer:
        return asgi.Answer(await call_.json())

    assert (await call(app(("POST", "/x", takes)), "POST", "/x", None, body))[0] == status


async def test_a_body_whose_client_disconnected_midway_is_refused():
    """Half of a body must not pass for all of it."""
    parts = iter([{"type": "http.request", "body": b"{}", "more_body": True}, {"type": "http.disconnect"}])

    async def receive():
        return next(parts)

    with pytest.raises(WrongInput, match="2 bytes"):
        await asgi.read_body(receive, 100)


def test_query_parameters_are_decoded():
    """Plus and percent encoding; of a repeated parameter the last."""
    scope = {"method": "GET", "headers": [], "query_string": b"q=a+b%20c&q=d%26e&empty=&flag"}

    assert asgi.Call(scope, None, {}).query() == {"q": "d&e", "empty": "", "flag": ""}
