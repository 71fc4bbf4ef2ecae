"""Which Cassandra node coordinates requests: in a lab with regions, the own region's while it is up."""

from types import SimpleNamespace

import pytest
from cassandra.connection import DefaultEndPoint
from cassandra.policies import SimpleConvictionPolicy
from cassandra.pool import Host

from system.kernel import settings
from system.platform import blueprint
from system.platform.addresses import Plan
from system.platform.servers import services
from system.stores.cassandra.driver import NearFirst

HOSTS = [Host(DefaultEndPoint(f"10.21.10.{n}"), SimpleConvictionPolicy) for n in (1, 2, 3)]


@pytest.fixture
def policy():
    """The policy of a service in the west; it knows three live hosts."""
    for host in HOSTS:
        host.set_location_info("datacenter1", f"zone-{host.address[-1]}")
    near_first = NearFirst("10.21.10.2")
    near_first.local_dc = "datacenter1"
    near_first.populate(SimpleNamespace(endpoints_resolved=[host.endpoint for host in HOSTS]), HOSTS)
    return near_first


def plans(policy, count=6):
    return [[host.address[-1] for host in policy.make_query_plan()] for _ in range(count)]


def test_the_near_node_is_first_in_every_query_plan(policy):
    """The others follow in turns, as fallbacks."""
    query_plans = plans(policy)

    assert {plan[0] for plan in query_plans} == {"2"}
    assert {tuple(plan[1:]) for plan in query_plans} == {("1", "3"), ("3", "1")}


def test_without_the_near_node_the_others_take_turns(policy):
    """The near node is first again when it is back."""
    policy.on_down(HOSTS[1])
    assert {plan[0] for plan in plans(policy)} == {"1", "3"}

    policy.on_up(HOSTS[1])
    assert {plan[0] for plan in plans(policy)} == {"2"}


@pytest.mark.parametrize(("name", "zone", "first", "near"), [
    ("two_regions", 2, "10.22.10.2:9042", True),
    ("two_regions", 1, "10.21.10.1:9042", True),
    ("two_regions", 0, "10.21.10.1:9042", False),  # monitoring runs outside the regions
    ("cluster", 2, "127.21.10.1:9042", False),
    ("small", 0, "127.21.10.1:9042", False),
])
def test_a_service_in_a_region_gets_its_own_node_first(name, zone, first, near):
    """The settings of a cluster and a small lab do not change."""
    stores = services.stores(blueprint.load(name), Plan(21), zone)

    assert (stores["cassandra"][0], "near" in stores) == (first, near)
    assert settings.parse_stores(stores).near is near
