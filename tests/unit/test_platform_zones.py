"""Configuration of a lab with zones: two load balancers and DNS servers, used by their zone's services."""

import json
from pathlib import Path

import pytest

from system.kernel import dns, settings
from system.platform import blueprint
from system.platform.addresses import Plan
from system.platform.install import packages
from system.platform.paths import Paths
from system.platform.servers import SERVERS, haproxy, nginx, pdns
from system.platform.servers.base import Context
from system.services.gateway.web import pages
from tests.helpers.requirements import requires

CLUSTER, SMALL = blueprint.load("cluster"), blueprint.load("small")


def context(name, of=CLUSTER):
    node = next(node for node in of.nodes if node.name == name)
    return Context(node, of, Plan(21), Paths(Path("/parrots"), 21), {"TWEETLAB_EDGE_SECRET": "polly"})


@pytest.mark.parametrize("zone", [1, 2])
def test_each_load_balancer_has_all_instances_of_every_service(zone):
    """Those of the other zone too: one zone's load balancer serves both."""
    text = haproxy.render(context(f"haproxy-{zone}"))

    assert f"bind 127.21.9.{zone}:8080" in text and f"bind 127.21.9.{zone}:8103" in text
    for kind, octet in (("gateway", 100), ("timelines", 103), ("likes", 106)):
        assert [f"server {kind}-{n} 127.21.{octet}.{n}:8000" in text for n in (1, 2)] == [True, True]
    assert text.count("backup no-check") == 14


@pytest.mark.parametrize("zone", [1, 2])
def test_dns_lists_the_load_balancers_that_answer_their_null_page(zone):
    """TTL of a second; all of them if none answers. A second name shows whether any does."""
    text = pdns.zone(context(f"pdns-{zone}"))

    options = "{selector='all', backupSelector='all', timeout=1})"
    url = "ifurlup('http://api.tweetlab.test:8080/null', "
    assert text.splitlines() == [
        "$ORIGIN tweetlab.test.", "$TTL 1", "@ IN SOA ns1 hostmaster 1 3600 600 86400 1", "@ IN NS ns1", "@ IN NS ns2",
        "ns1 IN A 127.21.7.1", "ns2 IN A 127.21.7.2",
        f'api IN LUA A "{url}{{\'127.21.9.1\', \'127.21.9.2\'}}, {options}"',
        f'checked IN LUA A "{url}{{{{\'127.21.9.1\', \'127.21.9.2\'}}, {{\'127.21.7.{zone}\'}}}}, {options}"',
    ]


@requires(packages.PDNS)
def test_dns_serves_only_the_labs_zone():
    """On its own loopback address, no transfer, no cache; as an unprivileged user."""
    launch, text = SERVERS["pdns"].launch(context("pdns-2")), pdns.conf(context("pdns-2"))

    assert launch.drops_root
    assert "local-address=127.21.7.2\nlocal-port=5300" in text and "disable-axfr=yes" in text and "\ncache-ttl=0" in text
    assert 'zone "tweetlab.test"' in pdns.named(context("pdns-2")) and dns.API == "api.tweetlab.test"


def test_a_service_uses_the_mesh_and_the_edge_of_its_own_zone():
    """They share its failures. A purge goes to all edges; a page may load pictures through all of them."""
    config = settings.from_env(SERVERS["media"].launch(context("media-2")).env)

    assert config.mesh["users"] == "http://127.21.9.2:8101"
    assert (config.cdn, config.further_edges) == ("http://127.21.8.2:8080", ("http://127.21.8.1:8080",))
    assert set(pages.media_origins(config)) == {f"http://127.21.{host}" for host in (
        "8.1:8080", "8.2:8080", "50.1:9000", "50.2:9000", "50.3:9000")}


def test_an_edge_uses_the_storage_and_the_media_service_of_its_zone():
    """It reads from the one and sends its cache results to the other."""
    text = next(text for path, text in SERVERS["nginx"].launch(context("cdn-2")).files.items() if path.name == "nginx.conf")

    assert "upstream storage { server 127.21.50.2:9000" in text and "syslog:server=127.21.105.2:8000" in text
    assert isinstance(SERVERS["nginx"], nginx.Nginx)


def test_small_has_neither_zones_nor_dns():
    """Its services use the default addresses, and no DNS server is among its nodes."""
    env = SERVERS["media"].launch(context("media-1", SMALL)).env

    assert json.loads(env["TWEETLAB_MESH"]) == settings.default_mesh(21)
    assert "TWEETLAB_CDN" not in env and "TWEETLAB_MEDIA_ORIGINS" not in env
    assert SMALL.of_kind("pdns") == ()
