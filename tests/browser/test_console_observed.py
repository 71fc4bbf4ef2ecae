"""The console of an observed lab: alerts and links of the observability stack, shown from recorded replies.

The console, its page and its queries are the real ones; Prometheus and the others are one small server that
replays their replies in a lab with --observe, at their addresses.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from system.platform.addresses import Plan
from system.platform.provider import NodeStatus
from tests.browser.conftest import DESK, PHONE, is_wider_than_its_window, served
from tweetlab.console import app, collector

pytestmark = [pytest.mark.real, pytest.mark.slow]

RANGE = 216
PLAN = Plan(RANGE)
KINDS = {"haproxy": "mesh", "gateway": "service", "prometheus": "observer", "alertmanager": "observer", "jaeger": "observer",
         "receiver": "observer"}
PAGES = {  # the target of each link of the page
    ("haproxy", "/"), ("haproxy", "/openapi.json"), ("prometheus", "/classic/alerts"), ("alertmanager", "/api/v2/alerts"),
    ("jaeger", "/search"), ("receiver", "/incidents"),
}


def alert(name: str, state: str, severity: str, summary: str, **labels: str) -> dict[str, object]:
    """Return one alert as in the reply of Prometheus 2.42 at /api/v1/alerts."""
    since = time.strftime("%Y-%m-%dT%H:%M:%S.000000001Z", time.gmtime(time.time() - 30))
    return {"labels": {"alertname": name, "severity": severity, **labels}, "annotations": {"summary": summary}, "state": state,
            "activeAt": since, "value": "1e+00"}


def burn(state: str, severity: str, windows: str, kind: str) -> dict[str, object]:
    return alert("BudgetBurn", state, severity, f"availability: budget burns too fast over {windows}", slo="availability",
                 set=kind, factor="60", windows=windows)


RECORDED = [
    burn("pending", "ticket", "72m/6m", "compressed"), burn("firing", "page", "1m/5s", "compressed"),
    alert("ConsumerLag", "pending", "ticket", "group fanout is 1200 records behind on new_tweet", group="fanout"),
    alert("InstanceDown", "firing", "page", "search-1 does not answer", node="search-1"),
    burn("firing", "page", "6m/30s", "compressed"),
    alert("InstanceRestarted", "firing", "ticket", "users-1 was started again", node="users-1"),
    alert("InstanceRestarted", "firing", "ticket", "likes-1 was started again", node="likes-1"),
]


class Recorder(http.server.BaseHTTPRequestHandler):
    """Replies for every server. `alerts` None: Prometheus does not answer."""

    alerts: list[dict[str, object]] | None = []

    def do_GET(self) -> None:
        kind = next(kind for kind in KINDS if PLAN.host(kind) == self.server.server_address[0])
        path = urlsplit(self.path).path
        known = (kind, path) in PAGES or (kind == "prometheus" and path == "/api/v1/alerts" and self.alerts is not None)
        body = json.dumps({"status": "success", "data": {"alerts": self.alerts}}).encode()
        self.send_response(200 if known else 503)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Recorded(collector.Collector):
    """A collector whose lab is a list of nodes."""

    async def _nodes(self) -> tuple[list[NodeStatus], dict[str, int]]:
        return [NodeStatus(f"{kind}-1", kind, role, "healthy", 1, 1, PLAN.of(kind), time.time() - 60, 0, 2**26, "healthy", True)
                for kind, role in KINDS.items()], {}


@pytest.fixture(scope="module")
def observed(tmp_path_factory) -> Iterator[str]:
    """The address of a console on recorded replies."""
    tmp_path, Recorder.alerts = tmp_path_factory.mktemp("observed"), RECORDED
    served_kinds = [kind for kind in KINDS if kind != "gateway"]
    servers = [http.server.ThreadingHTTPServer((PLAN.host(kind), PLAN.ports(kind)[0]), Recorder) for kind in served_kinds]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with served(app.Console(Recorded(tmp_path, RANGE, tmp_path / "runs"), tmp_path / "runs")) as url:
        yield url
    for server in servers:
        server.shutdown()
        server.server_close()


def test_alerts_are_listed_once_each_by_severity_with_their_age(windows, observed):
    """All windows of a budget, and all tickets of a kind, are one row; pages precede tickets, firing before pending."""
    page = windows.open(observed, DESK)
    rows = page.locator("#alerts li")

    expect(rows).to_have_count(4)
    expect(rows.nth(0)).to_contain_text("BudgetBurn availability: budget burns too fast over 1m/5s and 2 more")
    expect(rows.nth(1)).to_contain_text("InstanceDown search-1 does not answer")
    expect(rows.nth(2)).to_contain_text("InstanceRestarted users-1 was started again and 1 more")
    expect(rows.nth(3)).to_contain_text("ConsumerLag")
    assert [chip.inner_text() for chip in rows.locator(".chip").all()] == ["firing", "firing", "firing", "pending"]
    expect(rows.nth(0)).to_contain_text(re.compile(r"page · (\d+ min )?\d+ s ago"))
    assert windows.complaints == []


def test_every_link_of_the_page_answers(windows, observed):
    """The web client, the API, traces, metrics, alerts and incidents: each answers 200."""
    page = windows.open(observed)
    links = page.locator("#links a")

    expect(links).to_have_count(len(PAGES))
    for link in links.all():
        with urllib.request.urlopen(str(link.get_attribute("href")), timeout=5) as reply:
            assert reply.status == 200
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Prometheus").click()
    assert urlsplit(opened.value.url).path == "/classic/alerts"


def test_alerts_are_readable_on_a_phone(windows, observed):
    """390 px wide: no horizontal scrolling."""
    page = windows.open(observed, PHONE)

    expect(page.locator("#alerts li")).to_have_count(4)
    assert not is_wider_than_its_window(page)


def test_a_prometheus_that_does_not_answer_is_reported(windows, observed):
    """Without a reply the alerts are unknown: neither 'no alert' nor 'not observed'."""
    Recorder.alerts = None
    page = windows.open(observed)

    expect(page.locator("#alerts")).to_contain_text("Prometheus does not answer")
    Recorder.alerts = []
    expect(page.locator("#alerts")).to_contain_text("No alert is active")
