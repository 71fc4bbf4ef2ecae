"""Regions and the lines between them in the words of status and console."""

import pytest

from system.kernel.errors import CouldNotRun
from system.kernel.wan import Line
from system.platform.provider import NodeStatus
from system.platform.regions import network
from tweetlab import doctor
from tweetlab.commands import lab
from tweetlab.lab import regions


def ways(**changed):
    """All lines of a lab as the carrier tells them; `changed`: "1_2" -> what differs there."""
    return [{"from": one, "to": other, **Line(delay_s=0.0 if 4 in (one, other) else 0.01).to_json(),
             **changed.get(f"_{one}_{other}", {})}
            for one in (1, 2, 3, 4) for other in (1, 2, 3, 4) if one != other]


def node(name, zone=0, region=0):
    return NodeStatus(name, name, "store", "healthy", 7, 1, "x:1", 0.0, 0, 2**20, "healthy", True, zone, region)


def told(**changed):
    return {(row["one"], row["other"]): row["words"] for row in regions.between(ways(**changed))}


def test_calm_lines_are_three_and_those_of_users_go_without_saying():
    """Each two regions once, however many directions."""
    assert told() == {("east", "west"): "10 ms", ("east", "witness"): "10 ms", ("west", "witness"): "10 ms"}


@pytest.mark.parametrize(("there", "back", "words"), [
    ({"cut": True}, {"cut": True}, "cut"),
    ({"cut": True}, {}, "10 ms, cut from east to west"),
    ({}, {"cut": True}, "10 ms, cut from west to east"),
    ({"delay_s": 0.04}, {}, "40 ms"),
    ({}, {"loss": 0.015}, "10 ms, 1.5 % lost"),
    ({"jitter_s": 0.005, "rate_bps": 2e6}, {"rate_bps": 1e7}, "10 ms to 15 ms, 2 Mbit/s"),
])
def test_a_line_is_told_by_its_worse_direction(there, back, words):
    """And which direction it is where only one is cut."""
    assert told(_1_2=there, _2_1=back)[("east", "west")] == words


def test_the_line_of_users_is_told_where_it_is_not_calm():
    """A region that is cut off is cut off from them, too."""
    assert told(_1_4={"cut": True}, _4_1={"cut": True})[("east", "outside")] == "cut"
    assert told(_3_4={"delay_s": 0.02})[("witness", "outside")] == "20 ms"


def test_only_what_loses_or_limits_is_not_calm():
    """A long way is no trouble."""
    rows = {row["one"] + row["other"]: row["calm"] for row in regions.between(ways(_1_2={"delay_s": 0.1}, _1_3={"loss": 0.1}))}

    assert rows == {"eastwest": True, "eastwitness": False, "westwitness": True}


def test_a_place_is_a_region_by_name_or_a_zone_or_nothing():
    """Whatever the lab has."""
    places = [regions.place_of(node("x", *where)) for where in ((3, 3), (2, 0), (0, 0), (0, 4))]

    assert places == ["witness", "zone 2", "", "outside"]


def test_status_has_a_column_for_regions_only_where_there_are_some():
    """Sorted by it; the table of a lab without is as it was."""
    plain, placed = lab._table([node("a"), node("b", 1)]), lab._table([node("b", 2, 2), node("a", 1, 1)])

    assert [column.header for column in plain.columns] == ["node", "state", "health", "pid", "address", "MiB", "restarts"]
    assert list(placed.columns[1].cells)[:2] == ["east", "west"]


def test_the_doctor_tells_whether_regions_can_be_made_and_misses_nothing_where_not(monkeypatch):
    """They are no requirement."""
    def refuse(plan):
        raise CouldNotRun("Regions are roots alone.")

    monkeypatch.setenv("TWEETLAB_RANGE", "219")
    monkeypatch.setattr(network, "check", lambda plan: None)
    assert [(fact.ok, "two_regions" in fact.fact) for fact in doctor._regions()] == [(True, True)]
    monkeypatch.setattr(network, "check", refuse)
    assert [(fact.ok, fact.fact) for fact in doctor._regions()] == [(True, "none can be made: Regions are roots alone.")]


@pytest.mark.parametrize(("looked_s", "words"), [(0.4, ""), (43.2, "the autoscaler looked last 43 s ago")])
async def test_a_keeper_that_does_not_look_is_told(monkeypatch, looked_s, words):
    """Every node may be well, and yet nobody would replace one that hangs."""
    class House:
        async def scaling(self):
            return {"looked_s": looked_s}

    monkeypatch.setattr(lab, "_lab", House)
    said = await lab._late()

    assert said.startswith(words) and bool(said) == bool(words)
