"""The gateway's client of a service, against a small server with scripted behavior."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from system.kernel.errors import DeadlineExceeded, StoreUnavailable, Unavailable
from system.kernel.policies import BreakerKnobs, BulkheadKnobs, DeadlineKnobs, Policies
from system.services.gateway.upstream import Upstream


@asynccontextmanager
async def service(takes_s: float, status: int = 200, headers: dict[str, str] | None = None,
                  **knobs: Any) -> AsyncIterator[Upstream]:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(takes_s)
        return web.json_response({}, status=status, headers=headers)

    app = web.Application()
    app.router.add_get("/x", slow)
    app.router.add_delete("/x", slow)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream = Upstream(f"http://127.0.0.1:{runner.addresses[0][1]}", Policies(breaker=BreakerKnobs(failures=3), **knobs))
    await upstream.open()
    try:
        yield upstream
    finally:
        await upstream.close()
        await runner.cleanup()


async def test_clients_with_short_deadlines_do_not_open_the_breaker():
    """Their timeouts say nothing about the service."""
    async with service(0.05) as upstream:
        for _ in range(6):
            with pytest.raises(DeadlineExceeded):
                await upstream.send("GET", "/x", {}, None, time.monotonic() + 0.005)

        assert (await upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)).status == 200


async def test_a_request_past_its_deadline_is_certainly_not_forwarded():
    """A slow upload used it up: the error is definite."""
    async with service(0.0) as upstream:
        with pytest.raises(DeadlineExceeded) as refusal:
            await upstream.send("GET", "/x", {}, None, time.monotonic() - 0.001)

    assert refusal.value.definite


async def test_a_503_of_the_load_balancer_opens_the_breaker():
    """A 503 without an instance comes from the mesh; one with an instance is a refusal by a live service."""
    async with service(0.0, 503) as upstream:
        for _ in range(3):
            assert (await upstream.send("DELETE", "/x", {}, None, time.monotonic() + 5.0)).status == 503
        with pytest.raises(Unavailable) as refusal:
            await upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)
        assert refusal.value.definite and refusal.value.retry_after_s

    async with service(0.0, 503, {"x-tweetlab-instance": "users-1", "retry-after": "1"}) as upstream:
        for _ in range(9):
            assert (await upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)).status == 503


async def test_a_service_that_hangs_uses_up_only_its_own_slots():
    """The third call waits for a slot no longer than a store call may take, and is certainly not sent."""
    knobs = {"bulkhead": BulkheadKnobs(service=2), "deadline": DeadlineKnobs(store_s=0.1)}
    async with service(0.5, **knobs) as upstream:
        inside = [asyncio.create_task(upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)) for _ in range(2)]
        await asyncio.sleep(0.05)
        began_s = time.monotonic()
        with pytest.raises(StoreUnavailable) as refusal:
            await upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)

        assert refusal.value.definite and 0.05 < time.monotonic() - began_s < 0.4
        assert [reply.status for reply in await asyncio.gather(*inside)] == [200, 200]
        assert (await upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)).status == 200


async def _break_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, methods: list[str]) -> None:
    """Answer the first request of a connection, and close it without a byte once the second has arrived."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        for answer in (b"HTTP/1.1 200 OK\r\nx-tweetlab-instance: users-1\r\ncontent-length: 0\r\n\r\n", b""):
            methods.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[0])
            writer.write(answer)
            await writer.drain()
    writer.close()


@pytest.mark.parametrize(("method", "many"), [("DELETE", 1), ("PUT", 1), ("POST", 1), ("GET", 2)])
async def test_a_write_whose_connection_breaks_is_sent_once_and_is_not_definite(method, many):
    """Also on a reused connection: HTTP libraries treat DELETE and PUT as idempotent, and resend them."""
    methods: list[str] = []
    server = await asyncio.start_server(lambda reader, writer: _break_connection(reader, writer, methods), "127.0.0.1", 0)
    upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", Policies())
    await upstream.open()
    try:
        assert (await upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)).status == 200
        if method == "GET":
            assert (await upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)).retries == 1  # counted
        else:
            with pytest.raises(Unavailable) as refusal:
                await upstream.send(method, "/x", {}, None, time.monotonic() + 5.0)
            assert not refusal.value.definite
    finally:
        await upstream.close()
        server.close()

    assert methods.count(method) == many + (method == "GET")
