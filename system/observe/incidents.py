"""Incidents of a pager: one per key, however often an event is sent; a resolve closes it.

Two published formats are accepted: PagerDuty's Events API v2 and OpsGenie's alert API. Times are passed in.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from system.kernel.errors import WrongInput

PAGERDUTY, OPSGENIE = "pagerduty", "opsgenie"
ACTIONS = ("trigger", "acknowledge", "resolve")
SEVERITIES = ("critical", "error", "warning", "info")
KEY_LENGTH = 32          # of a PagerDuty routing key
MAX_DEDUP_KEY = 255
MAX_MESSAGE, MAX_ALIAS = 130, 512
GENIE = "GenieKey "


@dataclass(frozen=True)
class Event:
    """One event in the pager's terms.

    `action`: trigger, acknowledge or resolve. `key`: dedup_key or alias.
    """

    pager: str
    action: str
    key: str
    summary: str
    severity: str


@dataclass
class Incident:
    """One incident.

    `duplicates`: triggers received while it was open. Times: wall clock of the receiver, ms since 1970.
    """

    pager: str
    key: str
    summary: str
    severity: str
    opened_ms: int
    resolved_ms: int = 0
    duplicates: int = 0

    @property
    def open(self) -> bool:
        """Return whether it is still unresolved."""
        return not self.resolved_ms


class IncidentLog:
    """All incidents, in the order in which they were opened."""

    def __init__(self) -> None:
        self.incidents: list[Incident] = []

    def take(self, event: Event, at_ms: int) -> str:
        """Apply an event.

        Return opened, duplicate, acknowledged, resolved, or ignored (without an open incident).
        """
        incident = self._open(event.pager, event.key)
        if event.action == "trigger":
            if incident is not None:
                incident.duplicates += 1
                incident.summary = event.summary
                return "duplicate"
            self.incidents.append(Incident(event.pager, event.key, event.summary, event.severity, at_ms))
            return "opened"
        if incident is None:
            return "ignored"
        if event.action == "resolve":
            incident.resolved_ms = at_ms
            return "resolved"
        return "acknowledged"

    def rows(self) -> list[dict[str, Any]]:
        """Return the incidents as plain JSON values."""
        return [{**asdict(incident), "open": incident.open} for incident in self.incidents]

    def _open(self, pager: str, key: str) -> Incident | None:
        return next((incident for incident in reversed(self.incidents)
                     if (incident.pager, incident.key) == (pager, key) and incident.open), None)


def pagerduty(body: Any) -> Event:
    """Return the event in a body of POST /v2/enqueue. Raises WrongInput, naming the field."""
    body = _object(body, "the body")
    action = _one_of(body, "event_action", ACTIONS)
    if len(_text(body, "routing_key")) != KEY_LENGTH:
        raise WrongInput(f"routing_key has {len(body['routing_key'])} characters; it must have {KEY_LENGTH}.")
    key = _text(body, "dedup_key", MAX_DEDUP_KEY)
    if action != "trigger":
        return Event(PAGERDUTY, action, key, "", "")
    payload = _object(body.get("payload"), "payload")
    _text(payload, "source")
    return Event(PAGERDUTY, action, key, _text(payload, "summary", 1024), _one_of(payload, "severity", SEVERITIES))


def opsgenie(body: Any, key: str) -> Event:
    """Return the alert in a body of POST /v2/alerts. `key`: the Authorization header. Raises WrongInput, naming the field."""
    if not key.startswith(GENIE) or len(key) == len(GENIE):
        raise WrongInput("The header Authorization is missing; it must be `GenieKey <key>`.")
    body = _object(body, "the body")
    message, alias = _text(body, "message", MAX_MESSAGE), _text(body, "alias", MAX_ALIAS)
    return Event(OPSGENIE, "trigger", alias, message, str(body.get("priority") or "P3"))


def opsgenie_close(alias: str, identifier_type: str) -> Event:
    """Return the resolve event of POST /v2/alerts/{alias}/close.

    Raises WrongInput unless it identifies by alias.
    """
    if identifier_type != "alias":
        raise WrongInput(f"identifierType is {identifier_type!r}; this receiver identifies alerts only by `alias`.")
    return Event(OPSGENIE, "resolve", alias, "", "")


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongInput(f"{name} is {type(value).__name__}; it must be an object.")
    return value


def _text(body: dict[str, Any], name: str, longest: int = 4096) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise WrongInput(f"{name} is {str(value)[:60]!r}; it must be a text of 1 to {longest} characters.")
    return value


def _one_of(body: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = body.get(name)
    if value not in allowed:
        raise WrongInput(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")
    return str(value)
