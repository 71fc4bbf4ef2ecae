"""The local PagerDuty and OpsGenie: one incident per key, closed by its resolve; invalid events are rejected."""

import orjson
import pytest

from system.kernel.errors import WrongInput
from system.kernel.http.asgi import App
from system.observe import incidents
from system.observe.incidents import IncidentLog
from system.observe.receiver import Receiver

KEY = "0" * 32
TRIGGER = {"routing_key": KEY, "event_action": "trigger", "dedup_key": "the parrot",
           "payload": {"summary": "it rests", "source": "the shop", "severity": "critical"}}


def test_a_repeated_trigger_is_one_incident():
    """Same dedup_key, still open: a duplicate, even with another text."""
    log = IncidentLog()
    event = incidents.pagerduty(TRIGGER)
    assert [log.take(event, 1), log.take(event, 2)] == ["opened", "duplicate"]
    assert [(row["open"], row["duplicates"], row["opened_ms"]) for row in log.rows()] == [(True, 1, 1)]


def test_a_resolve_closes_the_incident_and_the_next_trigger_opens_another():
    """A key may be used again after its resolve; a resolve without an open incident changes nothing."""
    log = IncidentLog()
    trigger = incidents.pagerduty(TRIGGER)
    resolve = incidents.pagerduty({**TRIGGER, "event_action": "resolve"})
    assert [log.take(event, at) for at, event in enumerate((resolve, trigger, resolve, resolve, trigger))] == [
        "ignored", "opened", "resolved", "ignored", "opened"]
    assert [row["resolved_ms"] for row in log.rows()] == [2, 0]


def test_the_same_key_at_two_pagers_is_two_incidents():
    """PagerDuty and OpsGenie are independent."""
    log = IncidentLog()
    log.take(incidents.pagerduty(TRIGGER), 1)
    log.take(incidents.opsgenie({"message": "it rests", "alias": "the parrot"}, "GenieKey x"), 2)
    log.take(incidents.opsgenie_close("the parrot", "alias"), 3)
    assert [(row["pager"], row["open"]) for row in log.rows()] == [("pagerduty", True), ("opsgenie", False)]


@pytest.mark.parametrize(("change", "field"), [
    ({"routing_key": "short"}, "routing_key"),
    ({"event_action": "cheer"}, "event_action"),
    ({"dedup_key": "x" * 256}, "dedup_key"),
    ({"payload": {"summary": "", "source": "s", "severity": "critical"}}, "summary"),
    ({"payload": {"summary": "s", "source": "s", "severity": "awful"}}, "severity"),
    ({"payload": None}, "payload"),
])
def test_an_event_not_in_pagerdutys_format_is_rejected_with_its_field(change, field):
    """The real API answers 400 too; the error names the field."""
    with pytest.raises(WrongInput, match=field):
        incidents.pagerduty({**TRIGGER, **change})


def test_opsgenie_requires_its_key_and_an_alias():
    """Without `GenieKey …` every alert is rejected; an alert is closed by its alias."""
    with pytest.raises(WrongInput, match="GenieKey"):
        incidents.opsgenie({"message": "m", "alias": "a"}, "")
    with pytest.raises(WrongInput, match="identifierType"):
        incidents.opsgenie_close("a", "id")


async def ask(app, method, path, body=None, headers=()):
    """Return (status, JSON) of one request to an ASGI application."""
    messages = []

    async def receive():
        return {"type": "http.request", "body": orjson.dumps(body)}

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers), "query_string": b"identifierType=alias"}
    await app(scope, receive, send)
    return messages[0]["status"], orjson.loads(messages[1]["body"])


async def test_the_receiver_fails_on_request_and_accepts_the_retry(tmp_path):
    """POST /fail makes the next event fail; its retry opens one incident."""
    app = App("receiver", Receiver(tmp_path / "received.jsonl").rows(), "receiver-1")
    assert (await ask(app, "POST", "/fail", {"next": 1, "status": 503}))[0] == 200

    statuses = [(await ask(app, "POST", "/v2/enqueue", TRIGGER))[0] for _ in range(3)]

    assert statuses == [503, 202, 202]
    (incident,) = (await ask(app, "GET", "/incidents"))[1]["incidents"]
    assert (incident["open"], incident["duplicates"]) == (True, 1)
    events = (await ask(app, "GET", "/events"))[1]["events"]
    assert [row["did"] for row in events] == ["failed on purpose", "opened", "duplicate"]


async def test_a_killed_receiver_keeps_its_incidents(tmp_path):
    """Each event is in the file before the response; a partial line after a crash is ignored."""
    file = tmp_path / "received.jsonl"
    genie = [(b"authorization", b"GenieKey x")]
    first = App("receiver", Receiver(file).rows(), "receiver-1")
    await ask(first, "POST", "/opsgenie/v2/alerts", {"message": "it rests", "alias": "a parrot"}, genie)
    file.write_bytes(file.read_bytes() + b'{"cut of')

    second = App("receiver", Receiver(file).rows(), "receiver-1")
    assert (await ask(second, "POST", "/opsgenie/v2/alerts/a parrot/close", {}, genie))[0] == 202
    (incident,) = (await ask(second, "GET", "/incidents"))[1]["incidents"]
    assert (incident["summary"], incident["open"]) == ("it rests", False)
    assert len(Receiver(file).book.rows()) == 1


async def test_an_invalid_event_is_answered_with_400(tmp_path):
    """A body that is not an event opens no incident."""
    app = App("receiver", Receiver(tmp_path / "received.jsonl").rows(), "receiver-1")
    assert (await ask(app, "POST", "/v2/enqueue", {}))[0] == 400
    assert (await ask(app, "GET", "/incidents"))[1] == {"incidents": []}
