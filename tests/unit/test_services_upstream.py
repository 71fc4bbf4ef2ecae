"""The gateway's way to a service, against a small server that is told how to behave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from system.kernel.errors import DeadlineExceeded
from system.kernel.policies import BreakerKnobs, Policies
from system.services.gateway.upstream import Upstream


@asynccontextmanager
async def service(takes_s: float) -> AsyncIterator[Upstream]:
    async def slow(_: web.Request) -> web.Response:
        await asyncio.sleep(takes_s)
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/x", slow)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream = Upstream(f"http://127.0.0.1:{runner.addresses[0][1]}", Policies(breaker=BreakerKnobs(failures=3)))
    await upstream.open()
    try:
        yield upstream
    finally:
        await upstream.close()
        await runner.cleanup()


async def test_callers_without_patience_do_not_close_a_service_for_everybody():
    """Their time-outs say nothing about it."""
    async with service(0.05) as upstream:
        for _ in range(6):
            with pytest.raises(DeadlineExceeded):
                await upstream.send("GET", "/x", {}, None, time.monotonic() + 0.005)

        assert (await upstream.send("GET", "/x", {}, None, time.monotonic() + 5.0)).status == 200


async def test_a_request_whose_time_is_up_is_certainly_not_passed_on():
    """A slow upload used it: the answer says that nothing was done."""
    async with service(0.0) as upstream:
        with pytest.raises(DeadlineExceeded) as refusal:
            await upstream.send("GET", "/x", {}, None, time.monotonic() - 0.001)

    assert refusal.value.definite
