"""A lab with regions: where its nodes are, which clients they accept, and what a machine needs for it."""

import asyncio
import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from system.kernel import wan
from system.kernel.errors import CouldNotRun, WrongInput
from system.platform import blueprint, targets
from system.platform.addresses import Plan
from system.platform.paths import Paths
from system.platform.regions import network, wan_emulator
from system.platform.scaling.autoscaler import Autoscaler
from system.platform.servers import SERVERS, elasticsearch, nginx, postgres
from system.platform.servers.base import Context
from system.platform.servers.wan import delay_s
from tests.helpers.contexts import CLUSTER, PATHS, REGIONS, SMALL, context


def test_the_regions_have_the_nodes_of_the_clusters_zones():
    """The same nodes, each in the region of its zone, and the WAN emulator first."""
    rest = [dataclasses.replace(node, region=0) for node in REGIONS.nodes if node.kind != "wan"]

    assert rest == list(CLUSTER.nodes)
    assert all(node.region == node.zone > 0 for node in REGIONS.nodes if node.kind != "wan")
    assert [node.name for node in REGIONS.of_role("network")] == ["wan-1"]
    assert not any(node.region for node in (*SMALL.nodes, *CLUSTER.nodes))


def test_a_region_is_a_network_of_its_own():
    """East, west and witness follow from the lab's range; a lab without regions uses loopback."""
    assert [context(f"kafka-{n}").address for n in (1, 2, 3)] == ["10.21.20.1:9092", "10.22.20.2:9092", "10.23.20.3:9092"]
    assert context("kafka-2", CLUSTER).address == "127.21.20.2:9092"
    assert context("kafka-3").networks == ["127.0.0.0/8", "10.21.0.0/16", "10.22.0.0/16", "10.23.0.0/16", "10.24.0.0/16"]
    assert context("kafka-1", SMALL).networks == ["127.0.0.0/8"]


def test_a_node_runs_inside_its_region():
    """By nsenter, which execs the server; observers and the WAN emulator stay outside."""
    assert network.inside(PATHS, 2) == ["nsenter", f"--net=/run/netns/tweetlab-{PATHS.lab_id}-west", "--"]
    assert network.inside(PATHS, 0) == network.inside(PATHS, wan.OUTSIDE) == []
    assert {node.region for node in blueprint.with_observers(REGIONS).of_role("observer")} == {wan.OUTSIDE}
    assert {node.region for node in blueprint.with_observers(SMALL).of_role("observer")} == {0}


def test_services_in_regions_reach_jaeger_outside():
    """Jaeger's address is one that the regions have a route to."""
    observed = blueprint.with_observers(REGIONS)
    node = next(node for node in observed.nodes if node.name == "tweets-2")
    env = SERVERS["tweets"].launch(Context(node, observed, Plan(21), PATHS)).env

    assert env["TWEETLAB_OTLP"] == "http://10.24.72.1:4318"
    assert json.loads(env["TWEETLAB_MESH"])["users"].startswith("http://10.22.9.2:")


def test_stores_accept_only_clients_in_the_lab():
    """PostgreSQL trusts, and the edge accepts purges from, addresses inside the lab only."""
    rules = postgres.host_rules(context("postgres-1"))
    assert "host all all 10.22.0.0/16 trust" in rules and "host replication all 10.21.0.0/16 trust" in rules
    assert postgres.host_rules(context("postgres-1", SMALL)) == [
        "host all all 127.0.0.0/8 trust", "host replication all 127.0.0.0/8 trust"]

    text = "".join(SERVERS["nginx"].launch(context("cdn-2")).files.values())

    allowed = " ".join(f"allow {network};" for network in ("127.0.0.0/8", *(f"10.{n}.0.0/16" for n in (21, 22, 23, 24))))
    assert text.count(f"{allowed} deny all;") == 2
    assert nginx.Edge("a:1", "b:2", Path("/x"), "s").networks == ("127.0.0.0/8",)


def test_elasticsearch_peers_connect_over_loopback():
    """Any other address makes it enforce limits that a laptop does not have."""
    text = elasticsearch.render(context("elasticsearch-2"))

    assert "network.host: 10.22.60.2\ntransport.host: 127.22.60.2\n" in text
    assert '"127.21.60.1:9300", "127.22.60.2:9300", "127.23.60.3:9300"' in text
    assert "transport.host: 127.21.60.2\n" in elasticsearch.render(context("elasticsearch-2", CLUSTER))


def test_minio_finds_its_address_on_a_device():
    """The WAN emulator's configuration lists it.

    Other servers bind addresses that are routed to their region.
    """
    files = SERVERS["wan"].launch(context("wan-1")).files

    config = json.loads(next(iter(files.values())))
    assert config["hosts"] == {"1": ["10.21.50.1"], "2": ["10.22.50.2"], "3": ["10.23.50.3"]} and config["delay_s"] == 0.010


@pytest.mark.parametrize(("text", "delay"), [("", 0.010), ("0", 0.0), ("40", 0.040), ("2.5", 0.0025)])
def test_the_delay_between_regions_is_configurable(monkeypatch, text, delay):
    """In milliseconds, one way."""
    monkeypatch.setenv("TWEETLAB_WAN_MS", text)
    assert delay_s() == pytest.approx(delay)


@pytest.mark.parametrize("text", ["far", "-1", "1001", "nan"])
def test_an_invalid_delay_is_refused(monkeypatch, text):
    """Before anything starts."""
    monkeypatch.setenv("TWEETLAB_WAN_MS", text)
    with pytest.raises(WrongInput, match=r"TWEETLAB_WAN_MS is '.*'; it must be a number of milliseconds from 0 to 1000"):
        delay_s()


def test_only_root_can_create_regions(monkeypatch):
    """The error says what to use instead."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CouldNotRun, match="as root, or use `cluster`"):
        network.check(Plan(21))


def test_addresses_that_the_machine_uses_are_refused(monkeypatch):
    """In any of the four networks; another range has others."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "exists", lambda _: True)
    monkeypatch.setattr(network, "_ip", lambda *words: "default via 192.0.2.1 dev eth0\n10.23.0.0/16 dev eth1 scope link\n")
    with pytest.raises(CouldNotRun, match=r"10\.23\.0\.0/16 dev eth1.*TWEETLAB_RANGE"):
        network.check(Plan(21))
    network.check(Plan(30))


def emulator(tmp_path, **more):
    return wan_emulator.WanEmulator(Plan(21), {}, tmp_path / "lines.json", 0.010, **more)


def row(rows, source, target):
    return next(line for line in rows if (line["from"], line["to"]) == (source, target))


def test_the_wan_emulator_starts_with_default_lines(tmp_path):
    """10 ms between regions, no delay to the outside."""
    async def look():
        return wan_emulator.answer(emulator(tmp_path), {"op": "look"})

    rows = asyncio.run(look())

    assert len(rows) == 12 and {line["delay_s"] for line in rows if wan.OUTSIDE not in (line["from"], line["to"])} == {0.010}
    assert {line["delay_s"] for line in rows if wan.OUTSIDE in (line["from"], line["to"])} == {0.0}


def packet(source, target, version=4):
    head = bytearray(20)
    head[0] = version << 4 | 5
    head[12:16], head[16:20] = bytes(map(int, source.split("."))), bytes(map(int, target.split(".")))
    return bytes(head)


@pytest.mark.parametrize(("sent", "pair"), [
    (packet("10.21.0.1", "10.22.40.2"), (1, 2)), (packet("127.21.0.1", "127.23.60.3"), (1, 3)),
    (packet("192.168.1.7", "10.22.40.2"), (0, 0)),   # from another machine, for which this one would forward
    (packet("10.23.0.1", "10.22.40.2"), (0, 0)),     # the source of another region
    (packet("10.21.0.1", "192.168.1.7"), (0, 0)), (packet("10.21.0.1", "10.22.40.2", 6), (0, 0)), (b"", (0, 0)),
])
def test_the_wan_emulator_forwards_only_packets_of_the_lab(sent, pair):
    """The stores behind it require no password."""
    assert wan_emulator.pair_of(sent, 1, 20) == pair


def test_a_change_survives_a_restart_and_a_reset_ends_it(tmp_path):
    """Settings that the request does not name stay; so does the other direction."""
    async def change():
        wan_emulator.answer(emulator(tmp_path), {"op": "set", "pairs": [[1, 2]], "line": {"cut": True}})
        restarted = emulator(tmp_path)
        kept = wan_emulator.answer(restarted, {"op": "look"})
        return kept, wan_emulator.answer(restarted, {"op": "reset"}), wan_emulator.answer(emulator(tmp_path), {"op": "look"})

    kept, reset, after = asyncio.run(change())

    assert (row(kept, 1, 2)["cut"], row(kept, 1, 2)["delay_s"], row(kept, 2, 1)["cut"]) == (True, 0.010, False)
    assert not row(reset, 1, 2)["cut"] and not row(after, 1, 2)["cut"]


def test_calm_resets_lines_except_for_their_cuts(tmp_path):
    """The end of a slow-line fault undoes no cut, and does not change the other direction."""
    async def change():
        tested = emulator(tmp_path)
        wan_emulator.answer(tested, {"op": "set", "pairs": [[1, 2], [2, 1]], "line": {"delay_s": 0.5, "loss": 0.1, "cut": True}})
        return wan_emulator.answer(tested, {"op": "calm", "pairs": [[1, 2]]})

    rows = asyncio.run(change())

    assert [row(rows, 1, 2)[name] for name in ("delay_s", "loss", "cut")] == [0.010, 0.0, True]
    assert [row(rows, 2, 1)[name] for name in ("delay_s", "loss", "cut")] == [0.5, 0.1, True]


def test_the_state_of_lines_is_removed_with_the_lab(tmp_path, monkeypatch):
    """A lab that is started again after a cut has no cut: no fault is left to undo it."""
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    monkeypatch.setattr(network, "_ip", lambda *words: "")
    paths = Paths(tmp_path / "checkout", 21)
    config = json.loads(next(iter(SERVERS["wan"].launch(dataclasses.replace(context("wan-1"), paths=paths)).files.values())))
    Path(config["state"]).parent.mkdir(parents=True)
    Path(config["state"]).write_text("[]")

    network.remove(paths, Plan(21))
    network.remove(paths, Plan(21))

    assert not Path(config["state"]).exists()


@pytest.mark.parametrize("request_", [
    {"op": "calm", "pairs": [[1, 2], [1, 9]]},
    {"op": "set", "pairs": [[1, 2], [1, 9]], "line": {"cut": True}},
    {"op": "set", "pairs": [[1, 2], [2]], "line": {"cut": True}},
    {"op": "set", "pairs": [[1, 2]], "line": {"colour": 1}},
    {"op": "set", "pairs": [[1, 2]], "line": {"delay_s": 99}},
    {"op": "dance"},
])  # fmt: skip
def test_an_invalid_request_changes_nothing(tmp_path, request_):
    """Not even its valid part."""
    async def ask():
        tested = emulator(tmp_path)
        with pytest.raises(WrongInput):
            wan_emulator.answer(tested, request_)
        return tested.look()

    rows = asyncio.run(ask())
    assert not any(line["cut"] for line in rows) and not (tmp_path / "lines.json").exists()


def test_addresses_are_those_of_the_running_lab(tmp_path, monkeypatch):
    """Before its first start, and for an unknown name, there is none."""
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    paths = Paths(tmp_path / "checkout", 21)
    assert targets.address(paths, "haproxy-1") == ""

    class Child:
        node, ctx = context("haproxy-2").node, context("haproxy-2")

    paths.data_dir.mkdir(parents=True)
    targets.write(paths, [Child()])

    assert (targets.address(paths, "haproxy-2"), targets.address(paths, "haproxy-9")) == ("10.22.9.2:8080", "")


def test_starting_and_stopped_processes_are_scraped_but_not_expected(tmp_path, monkeypatch):
    """A start may take long, and Prometheus scrapes a removed process for some seconds."""
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))
    paths = Paths(tmp_path / "checkout", 21)
    paths.data_dir.mkdir(parents=True)

    def child(name, expected):
        return SimpleNamespace(node=context(name).node, ctx=context(name), expected=expected)

    targets.write(paths, [child("likes-1", True), child("likes-2", False), child("haproxy-1", True)])

    assert [row["labels"]["node"] for row in json.loads(paths.targets.read_text())] == ["likes-1", "likes-2"]
    assert json.loads(paths.expected.read_text()) == {"likes-1": True, "likes-2": False}


class Host:
    """A supervisor with the timelines instances of its blueprint, and those that are added."""

    def __init__(self):
        self.blueprint, self.children = REGIONS, {}
        for node in REGIONS.of_kind("timelines"):
            self.add_child(node)

    def add_child(self, node):
        self.children[node.name] = FakeChild(node)
        return self.children[node.name]


class FakeChild:
    state = "healthy"

    def __init__(self, node):
        self.node, self.quota_cores = node, None

    async def start(self):
        pass


async def test_an_added_instance_is_in_the_region_of_its_zone():
    """The emptiest zone first; an instance with the wrong region would be lost with the wrong region."""
    host = Host()
    autoscaler = Autoscaler(host)
    for _ in range(2):
        await autoscaler.add("timelines")

    assert [(host.children[f"timelines-{n}"].node.region, host.children[f"timelines-{n}"].node.zone) for n in (3, 4)] == [
        (1, 1), (2, 2)]
