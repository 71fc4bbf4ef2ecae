"""The texts of status and console about regions and the WAN links between them."""

import pytest

from system.kernel.errors import CouldNotRun
from system.kernel.wan import Link
from system.platform.provider import NodeStatus
from system.platform.regions import network
from tweetlab import doctor
from tweetlab.commands import lab
from tweetlab.lab import regions


def ways(**changed):
    """Return all links of a lab as the WAN emulator reports them; `changed`: "_1_2" -> what differs there."""
    return [{"from": one, "to": other, **Link(delay_s=0.0 if 4 in (one, other) else 0.01).to_json(),
             **changed.get(f"_{one}_{other}", {})}
            for one in (1, 2, 3, 4) for other in (1, 2, 3, 4) if one != other]


def node(name, zone=0, region=0):
    return NodeStatus(name, name, "store", "healthy", 7, 1, "x:1", 0.0, 0, 2**20, "healthy", True, zone, region)


def texts(**changed):
    return {(row["one"], row["other"]): row["words"] for row in regions.between(ways(**changed))}


def test_calm_links_are_three_and_those_of_users_are_left_out():
    """One row per pair of regions, not per direction."""
    assert texts() == {("east", "west"): "10 ms", ("east", "witness"): "10 ms", ("west", "witness"): "10 ms"}


@pytest.mark.parametrize(("forward", "backward", "words"), [
    ({"cut": True}, {"cut": True}, "cut"),
    ({"cut": True}, {}, "10 ms, cut from east to west"),
    ({}, {"cut": True}, "10 ms, cut from west to east"),
    ({"delay_s": 0.04}, {}, "40 ms"),
    ({}, {"loss": 0.015}, "10 ms, 1.5 % lost"),
    ({"jitter_s": 0.005, "rate_bps": 2e6}, {"rate_bps": 1e7}, "10 ms to 15 ms, 2 Mbit/s"),
])
def test_a_link_is_described_by_its_worse_direction(forward, backward, words):
    """And by the direction that is cut, if only one is."""
    assert texts(_1_2=forward, _2_1=backward)[("east", "west")] == words


def test_the_link_of_users_is_listed_if_it_is_not_calm():
    """A region that is cut off is also cut off from its users."""
    assert texts(_1_4={"cut": True}, _4_1={"cut": True})[("east", "outside")] == "cut"
    assert texts(_3_4={"delay_s": 0.02})[("witness", "outside")] == "20 ms"


def test_only_loss_cuts_and_limits_are_not_calm():
    """A long delay is not a fault."""
    rows = {row["one"] + row["other"]: row["calm"] for row in regions.between(ways(_1_2={"delay_s": 0.1}, _1_3={"loss": 0.1}))}

    assert rows == {"eastwest": True, "eastwitness": False, "westwitness": True}


def test_a_place_is_a_region_by_name_or_a_zone_or_nothing():
    """Depending on the blueprint."""
    places = [regions.place_of(node("x", *where)) for where in ((3, 3), (2, 0), (0, 0), (0, 4))]

    assert places == ["witness", "zone 2", "", "outside"]


def test_status_has_a_region_column_only_in_a_lab_with_regions():
    """Rows are sorted by it; without regions the column is absent."""
    plain, placed = lab._table([node("a"), node("b", 1)]), lab._table([node("b", 2, 2), node("a", 1, 1)])

    assert [column.header for column in plain.columns] == ["node", "state", "health", "pid", "address", "MiB", "restarts"]
    assert list(placed.columns[1].cells)[:2] == ["east", "west"]


def test_doctor_reports_whether_regions_are_available_and_never_fails_on_them(monkeypatch):
    """They are optional."""
    def refuse(plan):
        raise CouldNotRun("Regions are roots alone.")

    monkeypatch.setenv("TWEETLAB_RANGE", "219")
    monkeypatch.setattr(network, "check", lambda plan: None)
    assert [(fact.ok, "two_regions" in fact.fact) for fact in doctor._regions()] == [(True, True)]
    monkeypatch.setattr(network, "check", refuse)
    assert [(fact.ok, fact.fact) for fact in doctor._regions()] == [(True, "not available: Regions are roots alone.")]


@pytest.mark.parametrize(("looked_s", "words"), [(0.4, ""), (43.2, "the autoscaler last ran 43 s ago")])
async def test_an_autoscaler_that_does_not_run_is_reported(monkeypatch, looked_s, words):
    """Every node may be healthy, and still a hung one would not be replaced."""
    class FakeLab:
        async def scaling(self):
            return {"looked_s": looked_s}

    monkeypatch.setattr(lab, "_lab", FakeLab)
    warning = await lab._autoscaler_warning()

    assert warning.startswith(words) and bool(warning) == bool(words)
