"""The public door, a real HAProxy with the lab's own configuration: what it sends twice, and what it says of a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter

import aiohttp
import pytest
from yarl import URL

from system.kernel.errors import Unavailable
from system.kernel.policies import BreakerKnobs, Policies
from system.kernel.settings import MESH_PORTS
from system.platform import blueprint
from system.platform.addresses import Plan
from system.platform.install import packages
from system.platform.paths import Paths
from system.platform.servers import haproxy
from system.platform.servers.base import Context
from system.services.gateway.upstream import Upstream
from tests.helpers import requirements

pytestmark = pytest.mark.real

PLAN = Plan(243)  # addresses that no lab of the tests has
SMALL = blueprint.load("small")


class Server:
    """Stands where an instance would: answers its health check, and hangs up on everything else (or tells what it was sent)."""

    def __init__(self, hangs_up: bool) -> None:
        self._hangs_up = hangs_up
        self.met: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.decode("latin-1").split(" ", 2)
                if path != "/health":
                    self.met[method] += 1
                    if self._hangs_up:
                        break
                body = b"ok" if path == "/health" else head
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def door(tmp_path, hangs_up: bool, kinds=("gateway", "tweets")):
    """Run HAProxy in front of one gateway and one tweets service, where `kinds` has them."""
    requirements.check(packages.HAPROXY)
    paths = Paths(tmp_path, PLAN.range)
    node = SMALL.of_kind("haproxy")[0]
    config = haproxy.render(Context(node, SMALL, PLAN, paths)).replace(haproxy.runtime_socket(
        Context(node, SMALL, PLAN, paths)), str(tmp_path / "h.sock"))
    (tmp_path / "haproxy.cfg").write_text(config)
    server = Server(hangs_up)
    async with contextlib.AsyncExitStack() as stack:
        for kind in kinds:
            await stack.enter_async_context(await asyncio.start_server(server.serve, PLAN.host(kind), 8000))
        process = await asyncio.create_subprocess_exec("haproxy", "-db", "-q", "-f", str(tmp_path / "haproxy.cfg"))
        try:
            # A connection a request: aiohttp repeats by itself what a kept connection lost.
            connector = aiohttp.TCPConnector(force_close=True)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            for _ in range(100):
                with contextlib.suppress(OSError):
                    async with session.get(f"http://{PLAN.of('haproxy')}/null"):
                        break
                await asyncio.sleep(0.05)
            yield server, session
        finally:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("port", [8080, 8102], ids=["public door", "mesh of tweets"])
async def test_only_reads_are_sent_again_by_the_load_balancer(tmp_path, port):
    """Point 18: a server that hangs up before it answers met a GET three times; every other method once."""
    async with door(tmp_path, hangs_up=True) as (server, session):
        told = {}
        for method in ("GET", "POST", "DELETE", "PUT"):
            try:
                async with session.request(method, f"http://{PLAN.host('haproxy')}:{port}/2/tweets/1") as answer:
                    told[method] = answer.status
            except aiohttp.ServerDisconnectedError:
                told[method] = 0

    assert server.met == {"GET": 3, "POST": 1, "DELETE": 1, "PUT": 1}
    assert set(told.values()) <= {0, 502}


async def test_the_door_says_who_asks_and_since_when_whatever_a_client_claims(tmp_path):
    """Limits by address and shedding by waiting time hang on these two headers."""
    async with door(tmp_path, hangs_up=False) as (_, session):
        lies = {"x-forwarded-for": "6.6.6.6", "x-request-start": "1"}
        async with session.get(f"http://{PLAN.of('haproxy')}/2/tweets/1", headers=lies) as answer:
            sent = (await answer.text()).lower()
    headers = dict(line.split(": ", 1) for line in sent.split("\r\n")[1:] if ": " in line)

    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert abs(int(headers["x-request-start"]) / 1e6 - time.time()) < 5.0


@pytest.mark.parametrize("path", ["/metrics", "/health", "/%6detrics", "//metrics", "/health/", "/%2fhealth"])
async def test_pages_for_the_house_are_not_behind_the_public_door(tmp_path, path):
    """What a scraper and a load balancer ask for; the API's paths that begin alike go through."""
    async with door(tmp_path, hangs_up=False) as (server, session):
        async with session.get(URL(f"http://{PLAN.of('haproxy')}{path}", encoded=True)) as answer:
            assert (answer.status, (await answer.json())["status"]) == (404, 404)
        async with session.get(f"http://{PLAN.of('haproxy')}/2/healthy") as answer:
            assert answer.status == 200

    assert server.met == {"GET": 1}


async def test_a_body_that_dribbles_takes_no_place_in_a_gateway(tmp_path):
    """Its head is finished, its body is not: nothing is passed on, and others pass. (408 after 10 s: `test_owasp`.)"""
    async with door(tmp_path, hangs_up=False) as (server, session):
        host, port = PLAN.of("haproxy").split(":")
        slow = [await asyncio.open_connection(host, int(port)) for _ in range(300)]
        for _, writer in slow:
            writer.write(b"POST /2/tweets HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{")
        await asyncio.sleep(0.5)
        async with session.get(f"http://{PLAN.of('haproxy')}/2/tweets/1") as answer:
            assert answer.status == 200
        for _, writer in slow:
            writer.close()

    assert server.met == {"GET": 1}


async def test_a_service_that_is_dead_behind_the_mesh_opens_the_gateways_breaker(tmp_path):
    """HAProxy answers 503 in its place, seconds later; after a few of those the gateway answers at once, and asks no more."""
    knobs = Policies(breaker=BreakerKnobs(failures=3, open_s=30.0))
    async with door(tmp_path, hangs_up=False, kinds=("gateway",)):
        upstream = Upstream(f"http://{PLAN.host('haproxy')}:{MESH_PORTS['tweets']}", knobs, "tweets")
        await upstream.open()
        try:
            ends_s = time.monotonic() + 5.0
            told = await asyncio.gather(*(upstream.send("POST", "/2/tweets", {}, b"{}", ends_s) for _ in range(3)))
            began_s = time.monotonic()
            with pytest.raises(Unavailable) as refusal:
                await upstream.send("GET", "/2/tweets/1", {}, None, time.monotonic() + 5.0)
        finally:
            await upstream.close()

    assert [reply.status for reply in told] == [503] * 3
    assert refusal.value.definite and time.monotonic() - began_s < 0.1
