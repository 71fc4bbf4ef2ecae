"""Configuration of replicated stores in a lab with zones, and of single ones in a lab without."""

from pathlib import Path
from types import SimpleNamespace

import aiohttp
import elastic_transport
import pytest

from system.kernel import settings
from system.kernel.errors import CouldNotRun
from system.platform import blueprint
from system.platform.addresses import Plan
from system.platform.install import preflight
from system.platform.paths import Paths
from system.platform.servers import SERVERS, cassandra, elasticsearch, kafka, minio, nginx, services
from system.platform.servers.base import Context
from system.stores.elasticsearch import index as elastic_index

CLUSTER, SMALL = blueprint.load("cluster"), blueprint.load("small")
ZONES = (1, 2, 3)


@pytest.fixture(autouse=True)
def nothing_fetched(monkeypatch, tmp_path):
    """No package needs to be installed: the rendered configuration depends on none."""
    monkeypatch.setattr("system.platform.install.packages.require_java", lambda: "/usr/bin/java")
    monkeypatch.setattr("system.platform.install.packages.java_version", lambda: "17")
    monkeypatch.setattr("system.platform.install.packages.home", lambda package: tmp_path / package.name)


def context(name, of=CLUSTER):
    node = next(node for node in of.nodes if node.name == name)
    return Context(node, of, Plan(21), Paths(Path("/parrots"), 21))


def rows(text, separator):
    pairs = [line.split(separator, 1) for line in text.splitlines() if separator in line]
    return {key.strip(): value.strip() for key, value in pairs}


@pytest.mark.parametrize("zone", ZONES)
def test_a_zone_is_a_rack_of_cassandra(zone):
    """Three racks, three replicas: one in each. The node reads its rack from the file in its arguments."""
    launch = SERVERS["cassandra"].launch(context(f"cassandra-{zone}"))

    flag = next(arg for arg in launch.argv if arg.startswith("-Dcassandra-rackdc.properties=file://"))
    assert launch.files[Path(flag.partition("file://")[2])] == f"dc=datacenter1\nrack=zone-{zone}\n"
    assert rows(cassandra.render(context(f"cassandra-{zone}")), ":")["endpoint_snitch"] == "GossipingPropertyFileSnitch"


def test_cassandra_without_zones_has_no_rack():
    """A node with a changed rack would refuse to start on its data."""
    launch = SERVERS["cassandra"].launch(context("cassandra-1", SMALL))

    assert not any("rackdc" in str(part) for part in (*launch.argv, *launch.files))
    assert rows(cassandra.render(context("cassandra-1", SMALL)), ":")["endpoint_snitch"] == "SimpleSnitch"


@pytest.mark.parametrize("zone", ZONES)
def test_a_zone_is_a_rack_of_kafka(zone):
    """The replicas of a partition are spread over racks; two of three must have a record."""
    conf = rows(kafka.render(context(f"kafka-{zone}")), "=")

    assert (conf["broker.rack"], conf["default.replication.factor"], conf["min.insync.replicas"]) == (f"zone-{zone}", "3", "2")
    assert "broker.rack" not in kafka.render(context("kafka-1", SMALL))


@pytest.mark.parametrize(("zone", "roles"), [(1, "[master, data]"), (2, "[master, data]"), (3, "[master]")])
def test_elasticsearch_keeps_data_in_two_zones_and_votes_in_three(zone, roles):
    """Two nodes are no quorum; a shard and its replica never share a zone."""
    conf = rows(elasticsearch.render(context(f"elasticsearch-{zone}")), ":")

    assert (conf["node.roles"], conf["node.attr.zone"]) == (roles, f"zone-{zone}")
    assert conf["cluster.routing.allocation.awareness.attributes"] == "zone"
    assert conf["cluster.initial_master_nodes"] == '["elasticsearch-1", "elasticsearch-2", "elasticsearch-3"]'


def test_elasticsearch_without_zones_has_all_roles():
    """The only node of `small` does everything."""
    text = elasticsearch.render(context("elasticsearch-1", SMALL))

    assert "node.roles" not in text and "zone" not in text


@pytest.mark.parametrize("zone", ZONES)
def test_a_minio_cluster_lists_all_drives_and_each_node_its_own(zone):
    """Six drives in the same order for all.

    Without its address it would treat every loopback address as its own.
    """
    ctx = context(f"minio-{zone}")
    launch = SERVERS["minio"].launch(ctx)

    data_dir = ctx.paths.data_dir
    drives = [f"http://127.21.50.{z}:9000{data_dir}/minio-{z}/data/drive-{d}" for z in ZONES for d in (1, 2)]
    assert launch.argv[launch.argv.index("--address") + 1 :] == (f"127.21.50.{zone}:9000", *drives)
    assert {ctx.data / "drive-1", ctx.data / "drive-2"} <= set(launch.folders)
    assert launch.env["_MINIO_SERVER_LOCAL"] == f"127.21.50.{zone}:9000"
    assert launch.env["MINIO_STORAGE_CLASS_STANDARD"] == "EC:2"


def test_a_single_minio_uses_one_directory():
    """`small` has one drive, and nothing of a cluster in its environment."""
    ctx = context("minio-1", SMALL)
    launch = SERVERS["minio"].launch(ctx)

    assert launch.argv[-1] == str(ctx.data)
    assert minio.drive_urls(ctx) == []
    assert not {"_MINIO_SERVER_LOCAL", "KUBERNETES_SERVICE_HOST", "MINIO_CI_CD"} & set(launch.env)


@pytest.mark.parametrize(("zone", "order"), [(0, (1, 2, 3)), (1, (1, 2, 3)), (2, (2, 1, 3))])
def test_a_service_uses_the_storage_of_its_zone_first(zone, order):
    """The others are spares. A client without a zone gets the first."""
    parsed = settings.parse_stores(services.stores(CLUSTER, Plan(21), zone))

    assert (parsed.minio, *parsed.minio_spares) == tuple(f"127.21.50.{n}:9000" for n in order)
    assert settings.parse_stores(services.stores(SMALL, Plan(21))).minio_spares == ()


def test_an_edge_tries_the_other_storage_nodes_on_errors_and_404():
    """One signature is valid at all of them: the Host header is the first node's for every request."""
    text = nginx.conf(nginx.Edge("a:1", "b:9000", Path("/edge"), "polly", spares=("c:9000", "d:9000")))
    single = nginx.conf(nginx.Edge("a:1", "b:9000", Path("/edge"), "polly"))

    assert "server b:9000 max_fails=1 fail_timeout=1s; server c:9000 backup; server d:9000 backup; keepalive 16;" in text
    assert "proxy_set_header Host b:9000;" in text
    assert "proxy_next_upstream error timeout http_404;" in text
    assert "upstream storage { server b:9000 max_fails=0; keepalive 16; }" in single
    assert "proxy_next_upstream" not in single


def test_clients_get_every_member_that_holds_data():
    """All Cassandra and Kafka nodes; of Elasticsearch those with shards."""
    addresses = services.stores(CLUSTER, Plan(21))

    assert addresses["cassandra"] == ["127.21.10.1:9042", "127.21.10.2:9042", "127.21.10.3:9042"]
    assert addresses["kafka"] == ["127.21.20.1:9092", "127.21.20.2:9092", "127.21.20.3:9092"]
    assert addresses["elasticsearch"] == ["http://127.21.60.1:9200", "http://127.21.60.2:9200"]


KEY = SimpleNamespace(host="127.21.60.1", port=9200, ssl=True)


def attempt(cause):
    """Return the client's error for one attempt that failed with `cause`."""
    error = elastic_transport.ConnectionError(type(cause).__name__)
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("earlier", "last", "definite"),
    [
        ([], "refused", True),
        ([], "broken", False),
        (["refused"], "refused", True),
        (["broken"], "refused", False),
        (["refused"], "broken", False),
    ],
)
def test_a_failure_is_definite_only_if_no_attempt_reached_a_node(earlier, last, definite):
    """With several nodes a broken connection is retried at the next one; the first may have executed it."""
    causes = {"refused": aiohttp.ClientConnectorError(KEY, OSError("refused")), "broken": aiohttp.ServerDisconnectedError()}
    problem = attempt(causes[last])
    problem.errors = tuple(attempt(causes[each]) for each in earlier)

    assert elastic_index.mapped(problem, "urls").definite is definite


def test_a_lab_does_not_start_on_the_data_of_one_with_fewer_members(tmp_path):
    """Cassandra refuses another rack, and MinIO another set of drives: the message says what to do."""
    paths = Paths(tmp_path, 199)
    paths.make()
    try:
        preflight.keep_layout(paths, SMALL)
        preflight.check_layout(paths, SMALL)
        with pytest.raises(CouldNotRun, match=r"the data of a lab with 1 cassandra, and 'cluster' has 3.*tweetlab down --purge"):
            preflight.check_layout(paths, CLUSTER)
    finally:
        paths.remove()


def test_a_lab_with_regions_does_not_start_on_the_data_of_a_cluster(tmp_path):
    """The same number of members at other addresses: each etcd would look for its peers at the old ones."""
    paths, regions = Paths(tmp_path, 199), blueprint.load("two_regions")
    paths.make()
    try:
        preflight.keep_layout(paths, CLUSTER)
        with pytest.raises(CouldNotRun, match=r"with 3 cassandra, and 'two_regions' has 3 in regions.*tweetlab down --purge"):
            preflight.check_layout(paths, regions)
        preflight.keep_layout(paths, regions)
        preflight.check_layout(paths, regions)
        with pytest.raises(CouldNotRun, match=r"with 3 in regions cassandra, and 'cluster' has 3"):
            preflight.check_layout(paths, CLUSTER)
    finally:
        paths.remove()


def test_starting_a_part_of_a_lab_keeps_the_layout_of_the_rest(tmp_path):
    """Starting the stores of one kind does not forget the others."""
    paths = Paths(tmp_path, 199)
    paths.make()
    try:
        preflight.keep_layout(paths, CLUSTER)
        preflight.keep_layout(paths, blueprint.Blueprint("part", SMALL.of_kind("redis")))
        with pytest.raises(CouldNotRun, match="3 cassandra"):
            preflight.check_layout(paths, SMALL)
    finally:
        paths.remove()


def test_a_cluster_is_refused_if_it_does_not_fit_into_memory():
    """A lab without zones is not checked."""
    preflight.check_memory(SMALL, available_mib=1)
    preflight.check_memory(CLUSTER, available_mib=8_192)
    with pytest.raises(CouldNotRun, match=r"'cluster' needs 7\d{3} MiB, and 4000 MiB of memory and swap are free"):
        preflight.check_memory(CLUSTER, available_mib=4_000)
