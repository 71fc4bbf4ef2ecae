"""A load that follows DNS from one load balancer to another: two HTTP servers of this test, same port, two addresses."""

import asyncio
import collections
import contextlib
import http.server
import socket
import threading
import time

import pytest

from bench.selfchecks import load_selfcheck
from system.kernel import dns as names
from system.kernel.dns import Resolver
from tests.helpers.dns_server import Server
from tweetlab.load import driver
from tweetlab.load.generator import wire

ONE, TWO = "127.99.9.1", "127.99.9.2"


class Page(http.server.BaseHTTPRequestHandler):
    """Replies `ok` after its server's `hold_s` seconds."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(self.server.hold_s)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *arguments):
        """Log nothing."""


class Balancer(http.server.ThreadingHTTPServer):
    """One load balancer; `kill` also closes its connections."""

    daemon_threads = True
    hold_s = 0.0

    def __init__(self, host, port):
        self.open = []
        super().__init__((host, port), Page)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def get_request(self):
        request = super().get_request()
        self.open.append(request[0])
        return request

    def kill(self):
        self.shutdown()
        self.server_close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def rig():
    """Two load balancers, a DNS server that names both, and a generator's connections with a timeout of one second."""
    one = Balancer(ONE, 0)
    port = one.server_address[1]
    two, dns = Balancer(TWO, port), Server(ONE, TWO)
    resolver = Resolver([dns.address])
    yield one, two, dns, resolver, wire.Wire(f"{names.API}:{port}", 50, 1.0, names=resolver)
    for balancer in (one, two):
        balancer.kill()
    dns.close()


def send(over, count):
    """Send `count` requests; return the number of replies by (outcome, host)."""
    replies = collections.Counter()
    for _ in range(count):
        reply = over.exchange("GET", "/null")
        replies[reply.outcome, reply.address.partition(":")[0]] += 1
    return replies


def test_requests_go_round_robin_to_all_addresses_of_the_dns_reply(rig):
    """Each attempt records its address."""
    *_, over = rig

    assert send(over, 20) == {("ok", ONE): 10, ("ok", TWO): 10}


def test_a_killed_balancer_fails_only_requests_in_flight_to_it(rig):
    """A refused connection sent nothing: the same attempt continues with the other one, before DNS reacts."""
    one, *_, over = rig
    send(over, 4)

    one.kill()

    assert send(over, 20) == {("ok", TWO): 20}


def test_an_address_that_dns_removes_gets_no_requests_until_it_returns(rig):
    """Even if connections to it are still open."""
    _, _, dns, resolver, over = rig
    send(over, 4)

    dns.addresses = (TWO,)
    resolver.refresh()
    without = send(over, 6)
    dns.addresses = (ONE, TWO)
    resolver.refresh()

    assert without == {("ok", TWO): 6}
    assert set(send(over, 6)) == {("ok", ONE), ("ok", TWO)}


def test_a_balancer_that_hangs_fails_only_the_request_in_flight_to_it(rig):
    """Its outcome is unknown; the next requests go to the other one until DNS reacts."""
    one, *_, over = rig
    one.hold_s = 3.0

    replies = send(over, 20)

    assert replies["info", ONE] == 1 and replies["ok", TWO] == 19


def test_a_load_without_an_answering_dns_server_does_not_start(tmp_path):
    """The message names the server."""
    with load_selfcheck.stand_in() as base_url, pytest.raises(driver.CouldNotRun, match=r"127\.99\.7\.1:5300"):
        asyncio.run(load_selfcheck.play(base_url, tmp_path, "poisson", 2.0, name_servers=["127.99.7.1:5300"]))


def test_a_load_by_name_writes_the_address_of_each_attempt(tmp_path):
    """The complete generator in its own process, with its DNS queries in the background."""
    with load_selfcheck.stand_in() as base_url:
        dns = Server(base_url.rpartition("/")[2].partition(":")[0])
        _, result = asyncio.run(load_selfcheck.play(base_url, tmp_path, "poisson", 4.0, rate_per_s=50.0,
                                                    name_servers=[dns.address]))
        dns.close()
    rows = driver.history(result)

    assert set(rows["outcome"]) == {"ok"}
    assert set(rows["address"]) == {base_url.rpartition("/")[2]}
    assert 4 <= dns.asked <= 9
