"""The console of a cluster that lost a zone or a region: 52 processes, readable on a desktop and on a phone.

The console and its page are the real ones; the lab is the blueprint's list of nodes.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from system.platform import blueprint
from system.platform.addresses import Plan
from system.platform.provider import NodeStatus
from tests.browser.conftest import DESK, PHONE, is_wider_than_its_window, served
from tests.unit.test_tweetlab_regions import ways
from tweetlab.console import app, collector
from tweetlab.lab import regions

pytestmark = [pytest.mark.real, pytest.mark.slow]

RANGE = 222
PLAN, NODES = Plan(RANGE), blueprint.load("cluster").nodes


class Recorded(collector.Collector):
    """A collector whose lab is the cluster with zone 1 dead and one server of zone 2 unhealthy."""

    async def _nodes(self) -> tuple[list[NodeStatus], dict[str, int]]:
        return [self.row(node) for node in NODES], {}

    @staticmethod
    def row(node: blueprint.Node) -> NodeStatus:
        word = "dead" if node.zone == 1 else "healthy"
        health = "no process" if node.zone == 1 else "it does not stream" if node.name == "postgres-2" else "healthy"
        pid = 0 if node.zone == 1 else 1
        return NodeStatus(node.name, node.kind, node.role, word, pid, 1, PLAN.of(node.kind, node.instance), time.time() - 60, 0,
                          2**26, health, node.zone != 1, node.zone)


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """The address of a console on that cluster."""
    path = tmp_path_factory.mktemp("zones")
    with served(app.Console(Recorded(path, RANGE, path / "runs"), path / "runs")) as url:
        yield url


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_each_zone_is_shown_with_its_processes_and_the_lost_one_as_lost(windows, url, size):
    """Without horizontal scrolling."""
    page = windows.open(url, size)
    zones = page.locator("#zones .zone")
    expect(zones).to_have_count(3)
    lost, degraded, healthy = (zones.nth(number) for number in range(3))
    sizes = [len(blueprint.load("cluster").in_zone(zone)) for zone in (1, 2, 3)]

    expect(lost).to_have_class(re.compile("sick"))
    expect(lost.locator(".sum")).to_have_text(f"lost: none of {sizes[0]} processes healthy")
    expect(degraded.locator(".sum")).to_have_text(f"{sizes[1] - 1} of {sizes[1]} processes healthy")
    expect(healthy.locator(".sum")).to_have_text(f"all {sizes[2]} processes healthy")
    assert [zones.nth(number).locator(".chip").count() for number in range(3)] == sizes
    assert not is_wider_than_its_window(page)


def test_a_name_in_a_zone_shows_what_is_wrong_with_it(windows, url):
    """In the same dialog as a box."""
    page = windows.open(url, DESK)
    page.locator('#zones [data-node="postgres-2"]').click()

    expect(page.locator("#detail-facts")).to_contain_text("it does not stream")
    expect(page.locator("#detail-facts")).to_contain_text("Zone")


def test_members_of_one_kind_share_a_box_with_a_dot_for_each(windows, url):
    """Fifty-two boxes would be unreadable."""
    page = windows.open(url, DESK)
    dots = page.locator('[data-kind="cassandra"] .dots i')

    expect(dots).to_have_count(3)
    assert [dots.nth(n).get_attribute("class") for n in range(3)] == ["sick", "healthy", "healthy"]
    assert dots.nth(2).get_attribute("title") == "cassandra-3, zone 3"


class Placed(Recorded):
    """The same in regions: the east is cut off from all, the west is active, and the link to the witness loses packets."""

    async def _nodes(self) -> tuple[list[NodeStatus], dict[str, int]]:
        return [dataclasses.replace(self.row(node), region=node.region) for node in blueprint.load("two_regions").nodes], {}

    async def _regions(self, nodes: list[NodeStatus]) -> None:
        cut = {f"_{one}_{other}": {"cut": True} for one, other in ((1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (4, 1))}
        self._last.lines, self._last.active = regions.between(ways(**cut, _2_3={"loss": 0.01})), "west"


@pytest.fixture(scope="module")
def regions_url(tmp_path_factory) -> Iterator[str]:
    """The address of a console on two regions."""
    path = tmp_path_factory.mktemp("regions")
    with served(app.Console(Placed(path, RANGE, path / "runs"), path / "runs")) as url:
        yield url


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_regions_are_shown_by_name_and_the_links_between_them_by_state(windows, regions_url, size):
    """The active region is marked; a link that is cut is shown as cut."""
    page = windows.open(regions_url, size)
    cards, lines = page.locator("#zones .zone"), page.locator("#lines li")

    expect(page.locator("#zones-word")).to_have_text("Regions")
    expect(cards.locator("h3 > span:first-child")).to_have_text(["East", "West", "Witness"])
    expect(page.locator("#zones .active:visible")).to_have_count(1)
    expect(cards.nth(1).locator(".active")).to_be_visible()
    expect(lines).to_have_text(["east – west cut", "east – witness cut", "east – outside cut", "west – witness 10 ms, 1 % lost"])
    expect(lines.nth(0).locator(".chip")).to_have_class(re.compile("sick"))
    expect(lines.nth(3).locator(".chip")).to_have_class(re.compile("waits"))
    assert not is_wider_than_its_window(page)
