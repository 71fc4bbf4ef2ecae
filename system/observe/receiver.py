"""Emulates PagerDuty and OpsGenie on loopback for Alertmanager: `python -m system.observe.receiver`.

| route | purpose |
|---|---|
| POST /v2/enqueue | PagerDuty Events v2: trigger, acknowledge, resolve by `dedup_key`; 202 |
| POST /opsgenie/v2/alerts | OpsGenie: an alert by `alias`; 202 |
| POST /opsgenie/v2/alerts/{alias}/close | OpsGenie: resolve; 202 |
| GET /incidents | one row per incident, with the receiver's own times |
| GET /events | every event as received, failed ones included |
| POST /fail {"next": n, "status": s} | fail the next n events with that status, to test retries |

Each event is appended to `received.jsonl` in TWEETLAB_DATA before the response, so a restart loses no
incident.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import orjson

from system.kernel import settings
from system.kernel.errors import WrongInput
from system.kernel.http import asgi, serving
from system.kernel.http.asgi import Answer, App, Call
from system.observe import incidents
from system.observe.incidents import Event, IncidentLog

NAME = "receiver"
MAX_EVENTS = 2_000  # returned by GET /events; the file has all


class Receiver:
    """The handlers. `file`: stores the events; read at startup."""

    def __init__(self, file: Path) -> None:
        self.book = IncidentLog()
        self._file = file
        self._events: list[dict[str, Any]] = []
        self._failing, self._failure = 0, 500
        file.parent.mkdir(parents=True, exist_ok=True)
        for row in self._stored_rows():
            self._events.append(row)
            if row["status"] == 202:
                self.book.take(Event(*(row[name] for name in ("pager", "action", "key", "summary", "severity"))), row["at_ms"])

    def rows(self) -> list[asgi.Row]:
        """Return the routes."""
        return [
            ("POST", "/v2/enqueue", self.pagerduty),
            ("POST", "/opsgenie/v2/alerts", self.opsgenie),
            ("POST", "/opsgenie/v2/alerts/{alias}/close", self.close),
            ("GET", "/incidents", self.incidents),
            ("GET", "/events", self.events),
            ("POST", "/fail", self.fail),
        ]

    async def pagerduty(self, call: Call) -> Answer:
        """Accept an event in PagerDuty's format."""
        event = incidents.pagerduty(await call.json())
        return self._take(event, {"status": "success", "message": "Event processed", "dedup_key": event.key})

    async def opsgenie(self, call: Call) -> Answer:
        """Accept an alert in OpsGenie's format."""
        return self._take(incidents.opsgenie(await call.json(), call.header("authorization")), _processed())

    async def close(self, call: Call) -> Answer:
        """Close an alert in OpsGenie's format."""
        return self._take(incidents.opsgenie_close(call.params["alias"], call.query().get("identifierType", "id")), _processed())

    async def incidents(self, call: Call) -> Answer:
        """Return every incident."""
        return Answer({"incidents": self.book.rows()})

    async def events(self, call: Call) -> Answer:
        """Return the newest MAX_EVENTS events, oldest first."""
        return Answer({"events": self._events[-MAX_EVENTS:]})

    async def fail(self, call: Call) -> Answer:
        """Make the next events fail."""
        params = await call.json()
        count, status = params.get("next"), params.get("status", 500)
        if not isinstance(count, int) or not 0 <= count <= 1_000 or status not in (429, 500, 502, 503, 504):
            raise WrongInput(f"{params!r}: `next` must be 0 to 1000 and `status` 429, 500, 502, 503 or 504.")
        self._failing, self._failure = count, status
        return Answer({"next": count, "status": status})

    def _take(self, event: Event, reply: dict[str, Any]) -> Answer:
        at_ms, at_ns = time.time_ns() // 1_000_000, time.monotonic_ns()
        status, did = 202, "failed on purpose"
        if self._failing:
            self._failing -= 1
            status = self._failure
        else:
            did = self.book.take(event, at_ms)
        row = {"at_ms": at_ms, "at_ns": at_ns, "status": status, "did": did, "pager": event.pager, "action": event.action,
               "key": event.key, "summary": event.summary, "severity": event.severity}
        with self._file.open("ab") as file:
            file.write(orjson.dumps(row) + b"\n")
        self._events.append(row)
        return Answer(reply if status == 202 else {"status": "failed", "message": "failed on request"}, status)

    def _stored_rows(self) -> list[dict[str, Any]]:
        if not self._file.exists():
            return []
        complete, newline, partial = self._file.read_bytes().rpartition(b"\n")
        if partial:  # a crash interrupted the write, before any response
            os.truncate(self._file, len(complete) + len(newline))
        return [orjson.loads(line) for line in complete.splitlines()]


def _processed() -> dict[str, Any]:
    return {"result": "Request will be processed", "took": 0.001, "requestId": "lab"}


def main() -> None:
    """Serve until SIGTERM, with the settings of this process' environment."""
    config = settings.from_env()
    receiver = Receiver(Path(os.environ["TWEETLAB_DATA"]) / "received.jsonl")
    serving.serve(App(NAME, receiver.rows(), config.instance), config.listen_host, config.listen_port)


if __name__ == "__main__":
    main()
