"""A load that follows DNS from one balancer to another: HTTP servers of this test, on one port of two addresses."""

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
    """Says ok, as its server's `hold_s` has it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        time.sleep(self.server.hold_s)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *told):
        """Nobody reads it."""


class Balancer(http.server.ThreadingHTTPServer):
    """One balancer; `kill` ends its connections too."""

    daemon_threads = True
    hold_s = 0.0

    def __init__(self, host, port):
        self.open = []
        super().__init__((host, port), Page)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def get_request(self):
        made = super().get_request()
        self.open.append(made[0])
        return made

    def kill(self):
        self.shutdown()
        self.server_close()
        for each in self.open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def rig():
    """Two balancers, a DNS server that names both, and the connections of a generator with a patience of a second."""
    one = Balancer(ONE, 0)
    port = one.server_address[1]
    two, dns = Balancer(TWO, port), Server(ONE, TWO)
    resolver = Resolver([dns.address])
    yield one, two, dns, resolver, wire.Wire(f"{names.API}:{port}", 50, 1.0, names=resolver)
    for each in (one, two):
        each.kill()
    dns.close()


def ask(over, count):
    """Return how many answers came from whom, by outcome."""
    told = collections.Counter()
    for _ in range(count):
        answer = over.exchange("GET", "/null")
        told[answer.outcome, answer.address.partition(":")[0]] += 1
    return told


def test_requests_go_to_all_addresses_of_the_answer_in_turn(rig):
    """Each attempt tells which it was."""
    *_, over = rig

    assert ask(over, 20) == {("ok", ONE): 10, ("ok", TWO): 10}


def test_a_killed_balancer_costs_no_request_that_was_not_inside_it(rig):
    """Refused connections sent nothing: the same attempt goes on to the other one, long before DNS knows."""
    one, *_, over = rig
    ask(over, 4)

    one.kill()

    assert ask(over, 20) == {("ok", TWO): 20}


def test_what_dns_takes_out_gets_nothing_more_and_what_it_brings_back_serves_again(rig):
    """Kept connections to it are no reason."""
    _, _, dns, resolver, over = rig
    ask(over, 4)

    dns.addresses = (TWO,)
    resolver.refresh()
    without = ask(over, 6)
    dns.addresses = (ONE, TWO)
    resolver.refresh()

    assert without == {("ok", TWO): 6}
    assert set(ask(over, 6)) == {("ok", ONE), ("ok", TWO)}


def test_a_balancer_that_hangs_costs_the_request_inside_it_alone(rig):
    """Its outcome is unknown, the next go to the other one until DNS can know it."""
    one, *_, over = rig
    one.hold_s = 3.0

    told = ask(over, 20)

    assert told["info", ONE] == 1 and told["ok", TWO] == 19


def test_a_load_without_an_answering_dns_server_does_not_start(tmp_path):
    """And says who was asked."""
    with load_selfcheck.stand_in() as base_url, pytest.raises(driver.CouldNotRun, match=r"127\.99\.7\.1:5300"):
        asyncio.run(load_selfcheck.play(base_url, tmp_path, "poisson", 2.0, name_servers=["127.99.7.1:5300"]))


def test_a_load_by_name_writes_the_address_of_each_attempt(tmp_path):
    """The whole generator in its own process, its DNS questions beside the load."""
    with load_selfcheck.stand_in() as base_url:
        dns = Server(base_url.rpartition("/")[2].partition(":")[0])
        _, result = asyncio.run(load_selfcheck.play(base_url, tmp_path, "poisson", 4.0, rate_per_s=50.0,
                                                    name_servers=[dns.address]))
        dns.close()
    rows = driver.history(result)

    assert set(rows["outcome"]) == {"ok"}
    assert set(rows["address"]) == {base_url.rpartition("/")[2]}
    assert 4 <= dns.asked <= 9
