"""The address of a lab's public API: one load balancer in `small`, those that DNS names in a lab in zones."""

import pytest

from system.kernel.dns import Resolver
from system.platform import blueprint, native
from tests.helpers.dns_server import Server
from tweetlab.lab import session


@pytest.fixture
def lab(tmp_path):
    return native.Lab(tmp_path, 21)


def opened(lab, names):
    return session.Session(lab, None, None, None, "", False, names)


def test_small_has_one_load_balancer_and_uses_no_dns(lab):
    """Its address is fixed."""
    small = blueprint.load("small")

    assert session.resolver_of(lab, small) is None
    assert session.public_addresses(lab, small) == "http://127.21.9.1:8080"
    assert opened(lab, None).base_url == "http://127.21.9.1:8080" and opened(lab, None).name_servers == ()


def test_a_cluster_lists_both_load_balancers_and_its_dns_servers(lab):
    """For users; programs resolve the name."""
    cluster = blueprint.load("cluster")

    assert session.public_addresses(lab, cluster) == (
        "http://127.21.9.1:8080, http://127.21.9.2:8080 (api.tweetlab.test; DNS: 127.21.7.1:5300, 127.21.7.2:5300)")
    assert session.resolver_of(lab, cluster).servers == ("127.21.7.1:5300", "127.21.7.2:5300")


def test_the_url_of_a_cluster_is_a_healthy_load_balancer(lab):
    """Requests after the loss of a zone go to the other zone."""
    dns = Server("127.21.9.2")
    try:
        names = Resolver([dns.address])
        assert opened(lab, names).base_url == "http://127.21.9.2:8080"
        assert opened(lab, names).name_servers == (dns.address,)
    finally:
        dns.close()
