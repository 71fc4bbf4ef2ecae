"""Which Cassandra coordinates for a service: its own region's while it is up, in a lab of regions alone."""

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
    """A policy of the west that knows three live hosts."""
    for host in HOSTS:
        host.set_location_info("datacenter1", f"zone-{host.address[-1]}")
    made = NearFirst("10.21.10.2")
    made.local_dc = "datacenter1"
    made.populate(SimpleNamespace(endpoints_resolved=[host.endpoint for host in HOSTS]), HOSTS)
    return made


def plans(policy, many=6):
    return [[host.address[-1] for host in policy.make_query_plan()] for _ in range(many)]


def test_the_near_node_comes_first_whichever_turn_it_is(policy):
    """The others by turns, as spares."""
    told = plans(policy)

    assert {plan[0] for plan in told} == {"2"} and {tuple(plan[1:]) for plan in told} == {("1", "3"), ("3", "1")}


def test_without_the_near_node_the_others_take_turns(policy):
    """And it comes first again when it is back."""
    policy.on_down(HOSTS[1])
    assert {plan[0] for plan in plans(policy)} == {"1", "3"}

    policy.on_up(HOSTS[1])
    assert {plan[0] for plan in plans(policy)} == {"2"}


@pytest.mark.parametrize(("name", "zone", "first", "near"), [
    ("two_regions", 2, "10.22.10.2:9042", True),
    ("two_regions", 1, "10.21.10.1:9042", True),
    ("two_regions", 0, "10.21.10.1:9042", False),  # who looks on is outside
    ("cluster", 2, "127.21.10.1:9042", False),
    ("small", 0, "127.21.10.1:9042", False),
])
def test_a_service_in_a_region_is_told_its_own_node_first(name, zone, first, near):
    """What a cluster and a small lab are told stays as it was."""
    told = services.stores(blueprint.load(name), Plan(21), zone)

    assert (told["cassandra"][0], "near" in told) == (first, near)
    assert settings.parse_stores(told).near is near
