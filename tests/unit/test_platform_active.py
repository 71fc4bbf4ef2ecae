"""Which region serves users: the one with the cache's primary."""

from system.platform import blueprint
from system.platform.servers import haproxy, pdns
from tests.helpers.contexts import context


def test_a_load_balancer_is_active_in_the_region_of_the_caches_primary():
    """By two of the three sentinels, which a cut-off region does not reach.

    A cluster's load balancer has no such page.
    """
    text = haproxy.render(context("haproxy-2"))

    assert [line.split()[1:3] for line in text.splitlines() if "server sentinel" in line] == [
        ["sentinel-1", "10.21.32.1:26379"], ["sentinel-2", "10.22.32.2:26379"], ["sentinel-3", "10.23.32.3:26379"]]
    assert "GET-MASTER-ADDR-BY-NAME\\ cache\\r\\n" in text and "tcp-check expect min-recv 0 string 10.22.30.2\\r\\n" in text
    assert "{ path /active } { nbsrv(cache-here) ge 2 }" in text and text.count("path /active") == 2
    assert "active" not in haproxy.render(context("haproxy-2", blueprint.load("cluster")))


def test_a_request_stays_in_its_region():
    """255 of 256 while an instance is up there; a cluster uses the instance with the fewest connections."""
    text = haproxy.render(context("haproxy-2"))

    assert "server timelines-2 10.22.103.2:8000 weight 256\n" in text and "server timelines-1 10.21.103.1:8000 weight 1\n" in text
    assert "balance roundrobin" in text and "leastconn" not in text
    assert "weight" not in haproxy.render(context("haproxy-2", blueprint.load("cluster")))


def test_dns_lists_the_active_load_balancer():
    """Those that answer /active; if only the server's own fallback address is left, all healthy ones."""
    (row,) = [line for line in pdns.zone(context("pdns-2")).splitlines() if line.startswith("api ")]

    assert "ifurlup('http://api.tweetlab.test:8080/active', {{'10.21.9.1', '10.22.9.2'}, {'10.22.7.2'}}" in row
    assert "if address == '10.22.7.2' then return healthy end" in row and row.count('"') == 2
