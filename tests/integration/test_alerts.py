"""Prometheus and Alertmanager in a lab with --observe: which alerts fire, what the pagers receive, when alerts resolve."""

import asyncio
import subprocess
import time

import aiohttp
import pytest
import yaml

from system.observe import dashboards
from system.platform import alerting, blueprint, native
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.install import packages
from system.platform.paths import Paths
from system.platform.servers import SERVERS
from system.platform.servers.base import Context
from tests.helpers import data_flow
from tests.helpers.requirements import requires
from tweetlab.lab import monitoring

pytestmark = [
    pytest.mark.real,
    requires(packages.PROMETHEUS, packages.ALERTMANAGER),
]
RANGE = 217
WATCHED = Node("gateway-1", "gateway", "service", module="tests.helpers.monitored_service")
MONITORING = tuple(node for node in blueprint.OBSERVERS if node.kind in ("prometheus", "alertmanager", "receiver"))
EXPORTER = Node("exporter-1", "exporter", "observer", module="tests.helpers.monitored_exporter")
HAPROXY = blueprint.load("small").of_kind("haproxy")
RATE_PER_S = 20


async def until(look, what, within_s=25.0):
    """Return what `look` returns as soon as it is true."""
    deadline_s = time.monotonic() + within_s
    while not (found := await look()):
        assert time.monotonic() < deadline_s, f"{what} did not happen within {within_s} s"
        await asyncio.sleep(0.2)
    return found


class Watched:
    """A lab with HAProxy, one service and the observability stack, under constant load."""

    def __init__(self, lab, web):
        self.lab, self.web = lab, web

    async def json(self, kind, path):
        async with self.web.get(f"http://{self.lab.plan.of(kind)}{path}") as answer:
            return await answer.json()

    async def incident(self, pager, words):
        """Return the newest incident of a pager whose summary contains `words`, else None."""
        rows = (await self.json("receiver", "/incidents"))["incidents"]
        return next((row for row in reversed(rows) if row["pager"] == pager and words in row["summary"]), None)

    async def value(self, query):
        """Return the result of a Prometheus query: a number, or None."""
        result = (await self.json("prometheus", f"/api/v1/query?query={query}"))["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    async def load(self):
        """Send requests at a constant rate, whatever the responses (open workload)."""
        async def ask():
            try:
                async with self.web.get(f"http://{self.lab.plan.of('haproxy')}/parrot"):
                    pass
            except aiohttp.ClientError:
                pass

        tasks = set()
        while True:
            tasks.add(task := asyncio.create_task(ask()))
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(1 / RATE_PER_S)


@pytest.fixture
async def watched(tmp_path):
    """A lab that is up and under load; purged afterwards."""
    lab = native.Lab(tmp_path, RANGE)
    await lab.up(Blueprint("watched", (*HAPROXY, WATCHED, EXPORTER, *MONITORING)))
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as web:
            observed = Watched(lab, web)
            load = asyncio.create_task(observed.load())
            yield observed
            load.cancel()
    finally:
        await lab.down(purge=True)


async def both_alerts_of_a_group_page(watched):
    """Two alerts of one group whose texts differ have no common text; the pagers refuse an empty one."""
    labels = {"alertname": "BudgetBurn", "severity": "page", "slo": "parrots", "set": "real"}
    alerts = [{"labels": {**labels, "windows": windows}, "annotations": {"summary": f"parrots burn over {windows}"}}
              for windows in ("1h/5m", "6h/30m")]
    async with watched.web.post(f"http://{watched.lab.plan.of('alertmanager')}/api/v2/alerts", json=alerts) as answer:
        assert answer.status == 200
    for pager in ("pagerduty", "opsgenie"):
        event = await until(lambda pager=pager: watched.incident(pager, "parrots burn over"), f"an event at {pager}")
        assert event["summary"].endswith("(2 alerts)")


async def add_and_remove_a_gateway(watched):
    """Add a second gateway, wait until Prometheus scrapes it, and remove it, as a scale-in does."""
    await watched.lab.scale("gateway", 2)
    await until(lambda: watched.value('up{node="gateway-2"}'), "a scrape of the second gateway")
    assert await until(lambda: watched.value('tweetlab_node_expected{node="gateway-2"}'), "the word that it is expected") == 1.0
    await watched.lab.scale("gateway", 1)


async def test_a_killed_service_pages_once_and_is_resolved_after_recovery(watched):
    """Kill the only gateway: InstanceDown and the compressed burn rate fire; a rejected page is retried with the same key.

    An instance that was removed on purpose right before does not page.
    """
    await until(lambda: watched.value('up{job="gateway"}'), "the first scrape")
    async with watched.web.post(f"http://{watched.lab.plan.of('receiver')}/fail", json={"next": 1, "status": 500}) as answer:
        assert answer.status == 200
    named = [each for each in data_flow.rows()["7"].metrics if each.labels.get("job") == "gateway"]
    was = [await watched.value(each.query()) for each in named]
    await add_and_remove_a_gateway(watched)
    await watched.lab.auto_heal("gateway-1", False)
    killed_ms = time.time() * 1e3
    await watched.lab.kill("gateway-1")

    down = await until(lambda: watched.incident("pagerduty", "gateway-1 does not answer"), "a page")
    burn = await until(lambda: watched.incident("pagerduty", "availability: budget burns"), "a page of the burn rate")
    alert = await until(lambda: watched.incident("opsgenie", "gateway-1 does not answer"), "an alert at OpsGenie")
    assert "availability: budget burns more than" in burn["summary"]
    assert killed_ms < down["opened_ms"] < killed_ms + 20_000
    shown = await monitoring.alerts(watched.lab)  # what `tweetlab alerts` shows
    firing = {row["labels"]["alertname"] for row in shown["prometheus"] if row["state"] == "firing"}
    assert firing >= {"InstanceDown", "BudgetBurn"}
    # One incident can cover both sets of windows and then shows the first: each alert has its own factor.
    burning = [row["summary"] for row in shown["prometheus"] if row["labels"]["alertname"] == "BudgetBurn"]
    assert any("real windows divided by 60" in summary for summary in burning), burning
    assert down["key"] in {row["key"] for row in shown["incidents"] if row["open"]}

    await both_alerts_of_a_group_page(watched)
    await watched.lab.auto_heal("gateway-1", True)

    async def all_have_moved():
        now = [await watched.value(each.query()) for each in named]
        return now and all(value is not None and value != before for value, before in zip(now, was))

    async def resolved():
        incidents = [await watched.incident(pager, "gateway-1 does not answer") for pager in ("pagerduty", "opsgenie")]
        return all(row["resolved_ms"] for row in incidents)

    await until(resolved, "the resolve")
    await until(all_have_moved, "a movement of every metric that box 7 of docs/data-flow.md names")
    events = (await watched.json("receiver", "/events"))["events"]
    of_down = [row for row in events if row["key"] == down["key"] and row["pager"] == "pagerduty"]
    assert [row["did"] for row in of_down if row["status"] == 202] == ["opened", "resolved"]
    assert alert["opened_ms"] > killed_ms
    rows = (await watched.json("receiver", "/incidents"))["incidents"]
    for pager in ("pagerduty", "opsgenie"):  # nor under any other key
        assert sum(row["pager"] == pager and "gateway-1 does not answer" in row["summary"] for row in rows) == 1, rows

    assert not any("gateway-2" in row["summary"] for row in rows), "an instance that was taken out woke somebody"
    failed = [row for row in events if row["status"] == 500]
    same = [(row["key"], row["pager"]) for row in failed]
    again = [row for row in events if row["status"] == 202 and (row["key"], row["pager"]) in same]
    assert len(failed) == 1
    assert again[0]["at_ns"] > failed[0]["at_ns"]


def fires(severity, windows, set_, factor, burn):
    """Return one firing burn-rate alert of availability in promtool's format."""
    summary = f"availability: budget burns more than {burn} times too fast over {windows}"
    summary += f" (real windows divided by {factor})" if factor > 1 else ""
    labels = {"severity": severity, "slo": "availability", "set": set_, "factor": str(factor), "windows": windows}
    return {"exp_labels": labels, "exp_annotations": {"summary": summary}}


def test_ten_percent_errors_page_within_ten_minutes_and_resolve_with_the_errors(tmp_path):
    """Six good hours, 20 min with 10 % errors: the one-hour window pages once 1.44 % of it is bad, and resolves 5 min
    after the last error. The slow page (0.6 % of six hours) does not fire, and three days were not observed yet."""
    series = {"2xx": "0+100x360 36000+90x20 37800+100x60", "5xx": "0+0x360 0+10x20 200+0x60"}
    responses = [{"series": f'haproxy_backend_http_responses_total{{proxy="gateway",code="{code}"}}', "values": values}
            for code, values in series.items()]
    page = fires("page", "1h/5m", "real", 1, 14.4)
    fast_ticket = fires("ticket", "72m/6m", "compressed", alerting.COMPRESSION, 1)
    checks = [{"eval_time": at, "alertname": "BudgetBurn", "exp_alerts": expected}
             for at, expected in (("6h", []), ("372m", [page, fast_ticket]), ("400m", []))]
    (tmp_path / "rules.yml").write_text(alerting.rules_text())
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": responses, "alert_rule_test": checks}]}))

    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, cwd=tmp_path, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("exporter", [True, False])
def test_a_silent_instance_pages_unless_it_is_starting_or_was_stopped_on_purpose(tmp_path, exporter):
    """HAProxy, a store and a dead service page; a starting and a removed one do not, if the exporter reports expectations."""
    silent = {"haproxy": "haproxy-1", "minio": "minio-1", "gateway": "gateway-1", "users": "users-2", "likes": "likes-2"}
    series = [{"series": f'up{{job="{job}",node="{node}"}}', "values": "1 1 0x20"} for job, node in silent.items()]
    up = {"gateway-1": "1x22", "users-2": "1 1 0x20", "likes-2": "0x22"}  # silent, taken out, about to start
    series += [{"series": f'tweetlab_node_expected{{job="exporter",node="{node}"}}', "values": values}
               for node, values in up.items() if exporter]
    missed = [(job, node) for job, node in silent.items() if not exporter or job in ("haproxy", "minio", "gateway")]
    pages = [{"exp_labels": {"severity": "page", "job": job, "node": node},
              "exp_annotations": {"summary": f"{node} does not answer"}} for job, node in missed]
    (tmp_path / "rules.yml").write_text(alerting.rules_text())
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "2s", "tests": [
        {"interval": "2s", "input_series": series,
         "alert_rule_test": [{"eval_time": "30s", "alertname": "InstanceDown", "exp_alerts": pages}]}]}))

    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, cwd=tmp_path, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_rules(tmp_path):
    """`promtool check rules`: every expression parses."""
    (tmp_path / "rules.yml").write_text(alerting.rules_text())
    done = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


def test_prometheus_parses_every_expression_of_the_dashboards(tmp_path):
    """`promtool check rules` on all of them, each as a rule of its own."""
    expressions = [target["expr"] for board in dashboards.BOARDS for panel in dashboards.dashboard(board)["panels"]
                   for target in panel["targets"]]
    rules = [{"record": f"dashboards:expression:{n}", "expr": expression} for n, expression in enumerate(expressions)]
    file = tmp_path / "expressions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(rules)} rules found" in done.stdout


@pytest.mark.parametrize(("kind", "command"), [
    ("prometheus", ["promtool", "check", "config", "--syntax-only"]),
    ("alertmanager", ["amtool", "check-config"]),
])
def test_programs_accept_the_configuration_of_an_observed_lab(tmp_path, kind, command):
    """Rendered for `small` with the observability stack: every scrape job, route, receiver and inhibition."""
    lab = blueprint.with_observers(blueprint.load("small"))
    (node,) = lab.of_kind(kind)
    launch = SERVERS[kind].launch(Context(node, lab, Plan(RANGE), Paths(tmp_path, RANGE)))
    text = next(text for path, text in launch.files.items() if path.name == f"{kind}.yml")
    file = tmp_path / f"{kind}.yml"
    file.write_text(text)

    done = subprocess.run([*command, str(file)], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
