"""Metrics of the exporter about replicas, primaries and zones, from responses in the stores' formats."""

import json
import time
import types

import pytest

from system.kernel import settings
from system.kernel.telemetry import metrics
from system.observe import copies, stores
from system.observe.exporter import Exporter
from system.observe.stores import Sample

INFO = {
    "role": "master", "master_repl_offset": "1200", "connected_slaves": "1", "used_memory": "1", "connected_clients": "2",
    "slave0": "ip=127.1.30.2,port=6379,state=online,offset=1150,lag=1", "total_commands_processed": "9", "keyspace_hits": "1",
    "keyspace_misses": "1", "evicted_keys": "0", "used_cpu_user": "1", "used_cpu_sys": "1",
}
MEMBERS = [["redis", "127.1.30.1:6379", "redis-1", 1], ["redis", "127.1.30.2:6379", "redis-2", 2],
           ["etcd", "127.1.41.3:2379", "etcd-3", 3], ["gateway", "127.1.100.1:8000", "gateway-1", 1]]


def sample(series):
    lines = [line for line in metrics.text().decode().splitlines() if line.startswith(series + " ")]
    return float(lines[0].rpartition(" ")[2]) if lines else None


@pytest.fixture
def exporter(monkeypatch):
    monkeypatch.setenv("TWEETLAB_MEMBERS", json.dumps(MEMBERS))
    return Exporter(settings.from_env({}))


async def test_only_lines_of_databases_count_as_redis_keys(monkeypatch):
    """Redis 8 adds lines about key sizes with the same prefix as a database."""
    async def info(address):
        return INFO | {"db0": "keys=15,expires=2,avg_ttl=9", "db3": "keys=1,expires=0", "db0_distrib_strings_sizes": "1=13,2=2"}

    monkeypatch.setattr(copies, "redis_info", info)
    samples = await stores.redis(settings.from_env({}), "127.1.30.1:6379", "redis-1")

    assert [row.value for row in samples if row.name == "tweetlab_redis_keys"] == [16]


async def test_a_redis_primary_reports_its_role_and_the_lag_of_its_replica(monkeypatch):
    """The replica is named by the last octet of its address, as blueprints number it."""
    async def info(address):
        return INFO

    monkeypatch.setattr(copies, "redis_info", info)
    samples = await stores.redis(settings.from_env({}), "127.1.30.1:6379", "redis-1")
    values = {(row.name, row.labels["node"]): row.value for row in samples if "store" in row.labels}

    assert values == {("tweetlab_store_primary", "redis-1"): 1.0, ("tweetlab_copy_lag_bytes", "redis-2"): 50.0,
                      ("tweetlab_copy_lag_seconds", "redis-2"): 1.0}


def test_every_member_of_a_lab_with_zones_is_queried(exporter):
    """Quorum members too, which no service connects to; services have their own endpoints."""
    assert list(stores.addresses(settings.from_env({}))) == [
        ("redis", "127.1.30.1:6379", "redis-1"), ("redis", "127.1.30.2:6379", "redis-2"), ("etcd", "127.1.41.3:2379", "etcd-3")]


def test_a_change_of_the_primary_is_counted_once(exporter):
    """The first primary is not a change; the same one again is none either."""
    def report(node, value=1.0):
        exporter._count_changes([Sample("tweetlab_store_primary", value, {"store": "toy", "node": node})])

    counts = []
    for node in ("toy-1", "toy-1", "toy-2", "toy-2"):
        report(node)
        report("toy-3", 0.0)
        counts.append(sample('tweetlab_primary_changes_total{store="toy"}'))

    assert counts == [0.0, 0.0, 1.0, 1.0]


def test_a_zone_counts_its_stores_that_answer_and_those_that_do_not(exporter):
    """A zone is down if no store answers; one that was not queried yet is not reported."""
    exporter._answered |= {"redis-1", "redis-2"}
    exporter._down |= {"redis-2"}
    exporter._report_zones()

    zones = {zone: (sample(f'tweetlab_zone_stores{{state="up",zone="{zone}"}}'),
                    sample(f'tweetlab_zone_stores{{state="away",zone="{zone}"}}')) for zone in "123"}
    assert zones == {"1": (1.0, 0.0), "2": (0.0, 1.0), "3": (None, None)}


@pytest.mark.parametrize(("primary", "active"), [("10.21.30.1:6379", {"east": 1.0, "west": 0.0}),
                                               ("10.22.30.2:6379", {"east": 0.0, "west": 1.0}),
                                               ("", {"east": 0.0, "west": 0.0})])
async def test_each_link_between_regions_and_the_active_region_are_reported(monkeypatch, tmp_path, primary, active):
    """From the WAN emulator for each direction, and from most sentinels for the cache's primary."""
    row = {"from": 1, "to": 3, "delay_s": 0.02, "cut": True, "packets": 7, "bytes": 900, "lost": 2}
    queried = []

    async def ask(socket, request):
        return [row]

    members = [["wan", str(tmp_path / "wan.sock"), "wan-1", 0], ["sentinel", "10.21.32.1:26379", "sentinel-1", 1],
               ["redis", "10.21.30.1:6379", "redis-1", 1], ["redis", "10.22.30.2:6379", "redis-2", 2]]
    monkeypatch.setenv("TWEETLAB_MEMBERS", json.dumps(members))
    monkeypatch.setattr(stores.wan_emulator, "request_at", ask)
    monkeypatch.setattr(stores.sentinels, "elected_primary", lambda addresses: queried.append(addresses) or primary)
    samples = await stores.links(settings.from_env({}), str(tmp_path / "wan.sock"), "wan-1")

    link = {"source": "east", "target": "witness"}
    assert [(row.name, row.value, row.labels) for row in samples[:5]] == [
        ("tweetlab_wan_packets_total", 7, {**link, "fate": "carried"}),
        ("tweetlab_wan_packets_total", 2, {**link, "fate": "lost"}),
        ("tweetlab_wan_bytes_total", 900, link), ("tweetlab_wan_delay_seconds", 0.02, link),
        ("tweetlab_wan_cut", 1.0, link)]
    assert {row.labels["region"]: row.value for row in samples[5:]} == active and queried == [["10.21.32.1:26379"]]


def test_a_removed_node_is_not_expected_and_an_unreadable_list_changes_nothing(exporter, tmp_path, monkeypatch):
    """Prometheus scrapes it for some more seconds, and its silence must not page."""
    path = tmp_path / "expected.json"

    def expected(*nodes):
        if nodes:
            path.write_text(json.dumps(dict.fromkeys(nodes, True)))
        exporter.expect(path)
        return [sample(f'tweetlab_node_expected{{node="likes-{n}"}}') for n in (1, 2)]

    monkeypatch.setattr(time, "monotonic", lambda: clock.now_s)
    clock = types.SimpleNamespace(now_s=100.0)
    assert expected("likes-1", "likes-2") == [1.0, 1.0]
    assert expected("likes-1") == [1.0, 0.0]
    assert expected("likes-1", "likes-2") == [1.0, 0.0]  # back within a second: a scrape every two seconds must see the stop too
    clock.now_s += 6.0
    assert expected("likes-1", "likes-2") == [1.0, 1.0]
    assert expected("likes-1") == [1.0, 0.0]
    path.write_text('{"likes-')
    assert expected() == [1.0, 0.0]
