"""DNS of the lab: cached answers, dead servers skipped. The DNS servers here are sockets of this test."""

import time

import dns.rcode
import pytest

from system.kernel import dns as names
from system.kernel.errors import CouldNotRun
from tests.helpers.dns_server import Server


@pytest.fixture
def servers():
    pair = Server("127.9.9.1", "127.9.9.2"), Server("127.9.9.1", "127.9.9.2")
    yield pair
    for server in pair:
        server.close()


@pytest.fixture
def clock(monkeypatch):
    """Real time plus an offset that the test sets."""
    offset = [0.0]
    real = time.monotonic
    monkeypatch.setattr(names.time, "monotonic", lambda: real() + offset[0])
    return offset


def test_an_answer_is_cached_for_its_ttl(servers, clock):
    """One query per TTL, regardless of the number of calls."""
    resolver = names.Resolver([servers[0].address])

    first = {tuple(resolver.addresses()) for _ in range(20)}
    servers[0].addresses = ("127.9.9.2",)
    clock[0] += names.TTL_S

    assert first == {("127.9.9.1", "127.9.9.2"), ("127.9.9.2", "127.9.9.1")}, "each address comes first in turn"
    assert resolver.addresses() == ["127.9.9.2"]
    assert servers[0].asked == 2


def test_a_silent_server_is_skipped_and_queried_last_from_then_on(servers, clock):
    """It costs one query its timeout, not every query."""
    servers[0].silent = True
    resolver = names.Resolver([server.address for server in servers], patience_s=0.05)

    answer = resolver.addresses()
    clock[0] += names.TTL_S
    resolver.addresses()

    assert sorted(answer) == ["127.9.9.1", "127.9.9.2"]
    assert (servers[0].asked, servers[1].asked) == (1, 2)


@pytest.mark.parametrize("how", ["silent", "refusing", "empty"])
def test_the_last_answer_remains_valid_while_no_server_has_another(servers, clock, how):
    """A DNS outage does not make a load balancer unreachable."""
    resolver = names.Resolver([server.address for server in servers], patience_s=0.05)
    before = sorted(resolver.addresses())

    for server in servers:
        server.silent = how == "silent"
        server.rcode = dns.rcode.REFUSED if how == "refusing" else dns.rcode.NOERROR
        server.addresses = () if how != "silent" else server.addresses
    clock[0] += 10

    assert sorted(resolver.addresses()) == before


def test_an_unresolved_name_is_reported_with_the_servers_queried(servers):
    """The error names the servers."""
    servers[0].silent = True

    with pytest.raises(CouldNotRun, match=servers[0].address):
        names.Resolver([servers[0].address], patience_s=0.05).addresses()


def test_a_failed_address_is_tried_last_until_dns_can_report_it(servers, clock):
    """And the next call queries immediately."""
    resolver = names.Resolver([servers[0].address])
    resolver.addresses()

    resolver.failed("127.9.9.1")

    assert [resolver.addresses() for _ in range(4)] == [["127.9.9.2", "127.9.9.1"]] * 4
    assert servers[0].asked == 2
    clock[0] += names.SHUNNED_S
    assert {resolver.addresses()[0] for _ in range(4)} == {"127.9.9.1", "127.9.9.2"}
