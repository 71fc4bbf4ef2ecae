"""The public load balancer: a real HAProxy with the lab's configuration. Which requests it retries, which headers it sets."""

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
    """A fake instance: answers its health check, and closes the connection for other requests (or echoes them)."""

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
async def load_balancer(tmp_path, hangs_up: bool, kinds=("gateway", "tweets")):
    """Run HAProxy in front of one gateway and one tweets service, those that `kinds` names."""
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
            # A connection per request: aiohttp itself retries requests on a lost keep-alive connection.
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


@pytest.mark.parametrize("port", [8080, 8102], ids=["public load balancer", "mesh of tweets"])
async def test_the_load_balancer_retries_only_reads(tmp_path, port):
    """Point 18: a server that closes the connection before it responds gets a GET three times, other methods once."""
    async with load_balancer(tmp_path, hangs_up=True) as (server, session):
        statuses = {}
        for method in ("GET", "POST", "DELETE", "PUT"):
            try:
                async with session.request(method, f"http://{PLAN.host('haproxy')}:{port}/2/tweets/1") as answer:
                    statuses[method] = answer.status
            except aiohttp.ServerDisconnectedError:
                statuses[method] = 0

    assert server.met == {"GET": 3, "POST": 1, "DELETE": 1, "PUT": 1}
    assert set(statuses.values()) <= {0, 502}


async def test_the_load_balancer_sets_client_address_and_arrival_time_whatever_a_client_sends(tmp_path):
    """Limits by address and shedding by waiting time depend on these two headers."""
    async with load_balancer(tmp_path, hangs_up=False) as (_, session):
        forged = {"x-forwarded-for": "6.6.6.6", "x-request-start": "1"}
        async with session.get(f"http://{PLAN.of('haproxy')}/2/tweets/1", headers=forged) as answer:
            sent = (await answer.text()).lower()
    headers = dict(line.split(": ", 1) for line in sent.split("\r\n")[1:] if ": " in line)

    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert abs(int(headers["x-request-start"]) / 1e6 - time.time()) < 5.0


@pytest.mark.parametrize("path", ["/metrics", "/health", "/%6detrics", "//metrics", "/health/", "/%2fhealth"])
async def test_internal_pages_are_not_public(tmp_path, path):
    """Paths for scrapers and health checks are blocked; API paths with similar prefixes pass."""
    async with load_balancer(tmp_path, hangs_up=False) as (server, session):
        async with session.get(URL(f"http://{PLAN.of('haproxy')}{path}", encoded=True)) as answer:
            assert (answer.status, (await answer.json())["status"]) == (404, 404)
        async with session.get(f"http://{PLAN.of('haproxy')}/2/healthy") as answer:
            assert answer.status == 200

    assert server.met == {"GET": 1}


async def test_a_slow_body_takes_no_slot_of_a_gateway(tmp_path):
    """Its head is complete, its body is not: it is not forwarded, and others pass. (408 after 10 s: `test_owasp`.)"""
    async with load_balancer(tmp_path, hangs_up=False) as (server, session):
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


async def test_a_dead_service_behind_the_mesh_opens_the_gateways_circuit_breaker(tmp_path):
    """HAProxy returns 503 seconds later; after a few of those the gateway responds immediately, without a request."""
    knobs = Policies(breaker=BreakerKnobs(failures=3, open_s=30.0))
    async with load_balancer(tmp_path, hangs_up=False, kinds=("gateway",)):
        upstream = Upstream(f"http://{PLAN.host('haproxy')}:{MESH_PORTS['tweets']}", knobs, "tweets")
        await upstream.open()
        try:
            ends_s = time.monotonic() + 5.0
            replies = await asyncio.gather(*(upstream.send("POST", "/2/tweets", {}, b"{}", ends_s) for _ in range(3)))
            began_s = time.monotonic()
            with pytest.raises(Unavailable) as refusal:
                await upstream.send("GET", "/2/tweets/1", {}, None, time.monotonic() + 5.0)
        finally:
            await upstream.close()

    assert [reply.status for reply in replies] == [503] * 3
    assert refusal.value.definite and time.monotonic() - began_s < 0.1
