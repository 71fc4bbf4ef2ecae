"""The lab's names: answers of the newest question, dead servers passed over. DNS servers here are sockets of this test."""

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
    for each in pair:
        each.close()


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves; real time goes on below it."""
    moved = [0.0]
    real = time.monotonic
    monkeypatch.setattr(names.time, "monotonic", lambda: real() + moved[0])
    return moved


def test_an_answer_serves_for_its_ttl_and_is_asked_again_after_it(servers, clock):
    """One question a TTL, whoever asks how often."""
    resolver = names.Resolver([servers[0].address])

    first = {tuple(resolver.addresses()) for _ in range(20)}
    servers[0].addresses = ("127.9.9.2",)
    clock[0] += names.TTL_S

    assert first == {("127.9.9.1", "127.9.9.2"), ("127.9.9.2", "127.9.9.1")}, "each address is first in its turn"
    assert resolver.addresses() == ["127.9.9.2"]
    assert servers[0].asked == 2


def test_a_silent_server_is_passed_over_and_asked_last_from_then_on(servers, clock):
    """It costs one question its patience, not each of them."""
    servers[0].silent = True
    resolver = names.Resolver([each.address for each in servers], patience_s=0.05)

    found = resolver.addresses()
    clock[0] += names.TTL_S
    resolver.addresses()

    assert sorted(found) == ["127.9.9.1", "127.9.9.2"]
    assert (servers[0].asked, servers[1].asked) == (1, 2)


@pytest.mark.parametrize("how", ["silent", "refusing", "empty"])
def test_the_last_answer_holds_where_no_server_has_another(servers, clock, how):
    """DNS that is away takes no balancer away."""
    resolver = names.Resolver([each.address for each in servers], patience_s=0.05)
    before = sorted(resolver.addresses())

    for each in servers:
        each.silent = how == "silent"
        each.rcode = dns.rcode.REFUSED if how == "refusing" else dns.rcode.NOERROR
        each.addresses = () if how != "silent" else each.addresses
    clock[0] += 10

    assert sorted(resolver.addresses()) == before


def test_a_name_that_was_never_answered_is_told_with_who_was_asked(servers):
    """Value and fix: which servers."""
    servers[0].silent = True

    with pytest.raises(CouldNotRun, match=servers[0].address):
        names.Resolver([servers[0].address], patience_s=0.05).addresses()


def test_an_address_that_failed_is_tried_last_until_dns_can_know_it(servers, clock):
    """And the next call asks at once."""
    resolver = names.Resolver([servers[0].address])
    resolver.addresses()

    resolver.failed("127.9.9.1")

    assert [resolver.addresses() for _ in range(4)] == [["127.9.9.2", "127.9.9.1"]] * 4
    assert servers[0].asked == 2
    clock[0] += names.SHUNNED_S
    assert {resolver.addresses()[0] for _ in range(4)} == {"127.9.9.1", "127.9.9.2"}
