"""The console's handling of counters, journals and requests, without a lab."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
from types import SimpleNamespace

import pytest

from scenarios import loader
from system.kernel.errors import CouldNotRun
from system.platform.process import procs
from system.platform.provider import NodeStatus
from tweetlab.console import app, collector, current_run, haproxy_stats, scrape, topology, watchers
from tweetlab.load import journal
from tweetlab.load.live import Tick

STAT = """# pxname,svname,qcur,scur,stot,req_tot,hrsp_5xx,econ,ttime,status
gateway,FRONTEND,,3,50,{requests},{failed},,,OPEN
gateway,BACKEND,1,2,{requests},,0,0,7,UP
tweets,BACKEND,0,0,{tweets},,0,1,5,UP
tweets,tweets-1,0,0,{tweets},,0,1,5,UP
"""


def rows(requests: int, failed: int = 0, tweets: int = 0):
    return haproxy_stats.parse(STAT.format(requests=requests, failed=failed, tweets=tweets))


def test_haproxy_counters_become_a_rate_per_hop():
    """Clients to HAProxy, HAProxy to the gateways, the gateways to each service; single servers are not hops."""
    hops = topology.through_haproxy(rows(100, 1, 40), rows(160, 4, 50), took_s=2.0)

    assert [(h.source, h.target, h.rate, h.errors) for h in hops] == [
        ("clients", "haproxy", 30.0, 1.5), ("haproxy", "gateway", 30.0, 0.0), ("gateway", "tweets", 5.0, 0.0)]


def test_a_counter_that_fell_was_reset_by_a_restart():
    """After a restart the full count is the increase; a rate is never negative."""
    hops = topology.through_haproxy(rows(1000), rows(20), took_s=1.0)

    assert hops[0].rate == 20.0


def test_two_scrapes_become_rates_and_percentiles_of_a_dependency():
    """Ten calls of 1 to 2.5 ms in two seconds, one of them failed."""
    series = 'tweetlab_dependency_seconds_{what}{{dependency="redis",result="{result}"{le}}} {value}'

    def text(ok, failed):
        lines = [series.format(what="count", result=result, le="", value=n) for result, n in (("ok", ok), ("error", failed))]
        for bound, share in (("0.001", 0), ("0.0025", 1), ("+Inf", 1)):
            lines.append(series.format(what="bucket", result="ok", le=f',le="{bound}"', value=ok * share))
        return "\n".join(["# HELP x", "tweetlab_process_resident_bytes 1", *lines])

    grown = scrape.growth(scrape.read(text(5, 0), 10.0), scrape.read(text(15, 1), 12.0))
    [hop] = topology.calls({"timelines": [grown]})

    assert (hop.source, hop.target, hop.rate, hop.errors) == ("timelines", "redis", 5.5, 0.5)
    assert hop.p50_ms == pytest.approx(1.75)
    assert hop.p99_ms == pytest.approx(2.485)


def test_a_hit_ratio_counts_lookups():
    """Three hits, one miss and nothing stale in two seconds."""
    text = 'tweetlab_cache_requests_total{{cache="hot",result="{}"}} {}'
    before = scrape.read("\n".join((text.format("hit", 10), text.format("miss", 10))), 1.0)
    after = scrape.read("\n".join((text.format("hit", 13), text.format("miss", 11))), 3.0)

    assert topology.caches({"timelines": [scrape.growth(before, after)]}) == {"hot": {"rate": 2.0, "hits": 0.75}}


def test_only_circuit_breakers_that_are_not_closed_are_listed():
    """0 is closed, the normal state."""
    series = 'tweetlab_breaker_state{{dependency="{}"}}'
    values = {"gateway-1": {series.format("users"): 0.0, series.format("search"): 2.0, series.format("media"): 1.0}}

    assert [(b["dependency"], b["state"]) for b in topology.breakers(values)] == [("search", "open"), ("media", "half-open")]


def test_a_first_scrape_gives_no_rate():
    """There is no earlier reading."""
    first = scrape.growth(None, scrape.read('tweetlab_consumed_total{group="g",topic="t"} 9', 1.0))

    assert topology.calls({"timelines": [first]}) == []


@pytest.mark.parametrize("buckets, share, expected", [
    ({}, 0.5, None),
    ({0.1: 0.0, float("inf"): 0.0}, 0.5, None),
    ({0.1: 10.0, 0.2: 10.0, float("inf"): 10.0}, 0.5, 0.05),
    ({0.1: 0.0, 0.2: 0.0, float("inf"): 4.0}, 0.99, 0.2),
], ids=["no bucket", "nothing counted", "inside a bucket", "above the last bound"])
def test_a_percentile_is_read_from_buckets(buckets, share, expected):
    """Linear interpolation within a bucket; above the last bound the result is that bound."""
    assert scrape.percentile(buckets, share) == expected


def test_labels_with_special_characters_are_split_correctly():
    """A comma or a quote in a value is not a separator."""
    assert scrape.split(r'name{a="x,y",b="\"q\""}') == ("name", {"a": "x,y", "b": r'\"q\"'})


def test_every_worker_has_a_group_before_it_exports_anything():
    """Lag is read from the first frame on."""
    assert topology.groups({}, ["fanout", "indexer", "redis"]).keys() == {"fanout", "indexer"}


TICK = Tick(0, 30, 29, 28, 1, 0, 2, 1.5, 0.1, {"all": {"p50": 4.0, "p99": 20.0}})


def test_a_journal_follows_a_load_from_start_to_end(tmp_path):
    """Warming, loading with its seconds, checking; the inner listener receives each second too."""
    received = []
    scenario = loader.load("first_run")
    written = journal.Journal(journal.path_of(tmp_path), scenario, received.append)
    running = current_run.Running(tmp_path)

    assert running.read()["phase"] == "warming"
    written.started(1_000)
    written(TICK)
    load = running.read()
    assert (load["phase"], load["scenario"], load["tick"]["sent"]) == ("loading", "first_run", 29)
    so_far = running.read()["tick"]["so_far"]
    assert [so_far[name] for name in ("planned", "sent", "finished", "ok")] == [30, 29, 29, 28]
    assert load["faults"][0]["kind"] == "cache_loss"
    written.close()
    written.close()
    assert running.read()["phase"] == "checking"
    assert received == [TICK]


def test_a_load_whose_process_exited_is_broken(tmp_path):
    """A journal without an end and without a writer."""
    path = journal.path_of(tmp_path)
    journal.Journal(path, loader.load("first_run"), lambda tick: None)
    head = json.loads(path.read_text())
    path.write_text(json.dumps(head | {"start_ticks": procs.start_ticks(os.getpid()) + 1}) + "\n")

    assert current_run.Running(tmp_path).read()["phase"] == "broken"


def test_a_second_load_replaces_the_first(tmp_path):
    """The reader notices a new file, and forgets the old seconds."""
    scenario = loader.load("first_run")
    first = journal.Journal(journal.path_of(tmp_path), scenario, lambda tick: None)
    first.started(1)
    first(TICK)
    running = current_run.Running(tmp_path)
    running.read()

    journal.Journal(journal.path_of(tmp_path), dataclasses.replace(scenario, name="another"), lambda tick: None)

    assert running.read()["scenario"] == "another"
    assert running.ticks == []


def test_a_fault_is_active_until_it_is_undone(tmp_path):
    """From the undo log alone: planned is not yet injected, undone is no longer active."""
    steps = [{"id": "a", "step": "planned", "fault": "kill", "aim": {"node": "redis-1"}, "wall_ms": 1},
             {"id": "b", "step": "planned", "fault": "kill", "aim": {"node": "users-1"}, "wall_ms": 1},
             {"id": "a", "step": "injected", "wall_ms": 2}]
    (tmp_path / "undo.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))

    assert [(f["target"], f["state"]) for f in current_run.Running(tmp_path).faults()] == [("redis-1", "active")]


def test_runs_are_listed_newest_first_and_a_broken_record_hides_none(tmp_path):
    """One folder per run; unreadable records are left out."""
    for name, text in (("20260101T000000Z", "{"), ("20260102T000000Z", json.dumps(
            {"verdict": "PASS", "kind": "system", "scenario": {"question": "why?"}})), ("20260103T000000Z", json.dumps(
            {"verdict": "FAIL", "kind": "twin", "scenario": {}}))):
        folder = tmp_path / "first_run" / name
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(text)

    assert [(run["verdict"], run["run"]) for run in current_run.Runs(tmp_path).newest()] == [
        ("FAIL", "first_run/20260103T000000Z"), ("PASS", "first_run/20260102T000000Z")]


class FakeLab:
    """A fake lab whose nodes the test sets."""

    def __init__(self, folder):
        self.nodes: list[NodeStatus] = []
        self.plan = SimpleNamespace(range=9)
        self.paths = SimpleNamespace(state=folder, data_dir =folder)

    async def status(self):
        return self.nodes

    async def cpu_ns(self):
        return {node.name: 5 for node in self.nodes}


def node(name: str, state: str = "healthy") -> NodeStatus:
    return NodeStatus(name, name.rpartition("-")[0], "store", state, 7, 1, "127.9.9.9:1", 0.0, 0, 2**20, state, True)


async def test_a_lab_that_stops_and_starts_again_is_shown_frame_by_frame(tmp_path):
    """Down, healthy, impaired, down: each is a frame, without an error in between."""
    watch = collector.Collector(tmp_path, 9, tmp_path)
    watch.lab = lab = FakeLab(tmp_path)
    states = []
    for nodes in ([], [node("redis-1")], [node("redis-1", "dead")], []):
        lab.nodes = nodes
        states.append((await watch.frame())["state"])
    await watch.close()

    assert states == ["down", "healthy", "impaired", "down"]


async def test_a_slow_reading_is_not_counted_as_cpu(tmp_path, monkeypatch):
    """The machine keeps working while the supervisor answers slowly: CPU is divided by the time that really passed."""
    clock = SimpleNamespace(now_s=100.0, slow_s=0.0)
    watch = collector.Collector(tmp_path, 9, tmp_path)
    watch.lab = lab = FakeLab(tmp_path)
    lab.nodes = [node("redis-1")]

    async def cpu_ns():
        clock.now_s += clock.slow_s
        return {"redis-1": int(clock.now_s * 2e9)}  # two cores, always

    lab.cpu_ns = cpu_ns
    monkeypatch.setattr(collector.time, "monotonic", lambda: clock.now_s)
    monkeypatch.setattr(collector.sampler, "host_times", lambda: SimpleNamespace(busy_s=2 * clock.now_s, steal_s=0.0))
    points = []
    for clock.slow_s in (0.0, 1.5, 0.0):
        clock.now_s += 1.0
        points.append((await watch.frame())["point"])
    await watch.close()

    assert [point["host"] for point in points[1:]] == [2.0, 2.0]


async def ask(application, method: str, path: str, host: str, **more: str):
    """Send one request; return (status, headers, body)."""
    sent: list[dict] = []

    async def receive():
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(b"host", host.encode()), *((name.encode(), value.encode()) for name, value in more.items())]
    await application({"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
                       "headers": headers, "scheme": "http", "root_path": "", "http_version": "1.1"}, receive, send)
    received = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], received, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.fixture
def page(tmp_path):
    """The console's application on port 8799, with one run that has a report."""
    run = tmp_path / "first_run" / "20260101T000000Z"
    run.mkdir(parents=True)
    (run / "report.html").write_text("<p>report</p>")
    (tmp_path / "secret.html").write_text("secret")
    console = app.Console(collector.Collector(tmp_path, 9, tmp_path), tmp_path)
    console.port = 8799
    return console.app


@pytest.mark.parametrize("method, host, expected", [
    ("GET", "127.0.0.1:8799", 200), ("GET", "localhost:8799", 200), ("GET", "LOCALHOST:8799", 200),
    ("GET", "evil.example:8799", 421), ("GET", "127.0.0.1:80", 421), ("GET", "127.0.0.1.evil.example:8799", 421),
    ("GET", "", 421),
    ("POST", "127.0.0.1:8799", 405), ("DELETE", "127.0.0.1:8799", 405),
])
async def test_only_reads_addressed_to_loopback_are_answered(page, method, host, expected):
    """A foreign name that resolves to loopback (DNS rebinding) gets nothing, and no method can change anything."""
    status, headers, _ = await ask(page, method, "/", host)

    assert status == expected
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("path, expected", [
    ("/runs/first_run/20260101T000000Z/report.html", 200), ("/runs/first_run/..%2f../report.html", 404),
    ("/runs/../secret.html", 404), ("/runs/first_run/absent/report.html", 404), ("/logs/no-such-node", 404), ("/logs/..", 404),
])
async def test_reports_and_logs_stay_inside_their_folders(page, path, expected):
    """A path component never escapes its folder."""
    status, headers, _ = await ask(page, "GET", path, "127.0.0.1:8799")

    assert status == expected
    assert status != 200 or "sandbox" in headers["content-security-policy"]


def test_a_port_in_use_is_reported_with_another_to_use():
    """The message names the address and the fix."""
    first = app.bind(0)
    port = first.getsockname()[1]

    with pytest.raises(CouldNotRun, match=rf"127\.0\.0\.1:{port} .*--port"):
        app.bind(port)
    first.close()


async def test_a_frame_that_fails_is_logged_and_the_next_one_is_shown(tmp_path, monkeypatch, caplog):
    """The page never stays frozen."""
    monkeypatch.setattr(app, "EVERY_S", 0.01)

    class FailsTwice:
        frames = 0

        async def frame(self):
            self.frames += 1
            if self.frames < 3:
                raise ValueError("a line that is no JSON")
            return {"frame": self.frames}

        async def close(self): ...

    console = app.Console(FailsTwice(), tmp_path)
    console._viewers = 1
    producing = asyncio.ensure_future(console._produce_frames())
    for _ in range(200):
        await asyncio.sleep(0.01)
        if console._frame:
            break
    producing.cancel()

    assert b'"frame"' in console._frame
    assert sum("a frame of the console failed" in record.message for record in caplog.records) == 2


def test_the_traffic_of_several_load_balancers_is_added_up():
    """Two HAProxies share the load."""
    ends = ("clients", "haproxy")
    hops = [topology.Hop(*ends, 3.0, 1.0), topology.Hop(*ends, 4.0), topology.Hop("haproxy", "gateway", 2.0)]

    assert [(hop.source, hop.rate, hop.errors) for hop in topology.added(hops)] == [("clients", 7.0, 1.0), ("haproxy", 2.0, 0.0)]


def test_of_two_load_balancers_the_page_links_to_the_healthy_one():
    """A dead balancer's address would be a broken link."""
    def balancer(number, health):
        return NodeStatus(f"haproxy-{number}", "haproxy", "mesh", "healthy", 7, 1,
                          f"127.9.9.{number}:8080", 0.0, 0, 0, health, True)

    links = watchers.links([balancer(1, "connection refused"), balancer(2, "healthy")])

    assert [link["url"] for link in links] == ["http://127.9.9.2:8080/", "http://127.9.9.2:8080/openapi.json"]
