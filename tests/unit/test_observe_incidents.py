"""What the local PagerDuty and OpsGenie make of events: one incident a key, closed by its resolve; nonsense is refused."""

import pytest

from system.kernel.errors import WrongInput
from system.observe import incidents
from system.observe.incidents import Book

KEY = "0" * 32
TRIGGER = {"routing_key": KEY, "event_action": "trigger", "dedup_key": "the parrot",
           "payload": {"summary": "it rests", "source": "the shop", "severity": "critical"}}


def test_a_trigger_that_comes_twice_is_one_incident():
    """Same dedup_key, still open: a duplicate, whatever its text says by now."""
    book = Book()
    event = incidents.pagerduty(TRIGGER)
    assert [book.take(event, 1), book.take(event, 2)] == ["opened", "duplicate"]
    assert [(row["open"], row["duplicates"], row["opened_ms"]) for row in book.rows()] == [(True, 1, 1)]


def test_a_resolve_closes_the_incident_and_the_next_trigger_opens_another():
    """A key may be used again after its resolve; a resolve of what is not open changes nothing."""
    book = Book()
    trigger = incidents.pagerduty(TRIGGER)
    resolve = incidents.pagerduty({**TRIGGER, "event_action": "resolve"})
    assert [book.take(each, at) for at, each in enumerate((resolve, trigger, resolve, resolve, trigger))] == [
        "ignored", "opened", "resolved", "ignored", "opened"]
    assert [row["resolved_ms"] for row in book.rows()] == [2, 0]


def test_the_same_key_at_two_pagers_is_two_incidents():
    """PagerDuty and OpsGenie know nothing of each other."""
    book = Book()
    book.take(incidents.pagerduty(TRIGGER), 1)
    book.take(incidents.opsgenie({"message": "it rests", "alias": "the parrot"}, "GenieKey x"), 2)
    book.take(incidents.opsgenie_close("the parrot", "alias"), 3)
    assert [(row["pager"], row["open"]) for row in book.rows()] == [("pagerduty", True), ("opsgenie", False)]


@pytest.mark.parametrize(("change", "named"), [
    ({"routing_key": "short"}, "routing_key"),
    ({"event_action": "cheer"}, "event_action"),
    ({"dedup_key": "x" * 256}, "dedup_key"),
    ({"payload": {"summary": "", "source": "s", "severity": "critical"}}, "summary"),
    ({"payload": {"summary": "s", "source": "s", "severity": "awful"}}, "severity"),
    ({"payload": None}, "payload"),
])
def test_an_event_outside_pagerdutys_shape_is_refused_by_its_field(change, named):
    """What the real API answers with 400 is 400 here, and says which field."""
    with pytest.raises(WrongInput, match=named):
        incidents.pagerduty({**TRIGGER, **change})


def test_opsgenie_wants_its_key_and_an_alias_by_name():
    """Without `GenieKey …` nothing is taken; an alert is closed by its alias."""
    with pytest.raises(WrongInput, match="GenieKey"):
        incidents.opsgenie({"message": "m", "alias": "a"}, "")
    with pytest.raises(WrongInput, match="identifierType"):
        incidents.opsgenie_close("a", "id")
