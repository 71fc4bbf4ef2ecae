"""What a lab in zones renders for its replicated stores, and that a lab without zones renders what it did."""

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
    """No package is asked for: what is rendered depends on none."""
    monkeypatch.setattr("system.platform.install.packages.need_java", lambda: "/usr/bin/java")
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
    """Three racks, three copies: one in each. The node reads its rack from the file that it is led to."""
    launch = SERVERS["cassandra"].launch(context(f"cassandra-{zone}"))

    flag = next(arg for arg in launch.argv if arg.startswith("-Dcassandra-rackdc.properties=file://"))
    assert launch.files[Path(flag.partition("file://")[2])] == f"dc=datacenter1\nrack=zone-{zone}\n"
    assert rows(cassandra.render(context(f"cassandra-{zone}")), ":")["endpoint_snitch"] == "GossipingPropertyFileSnitch"


def test_cassandra_without_zones_has_no_rack():
    """A node whose rack changed would refuse to start on its data."""
    launch = SERVERS["cassandra"].launch(context("cassandra-1", SMALL))

    assert not any("rackdc" in str(part) for part in (*launch.argv, *launch.files))
    assert rows(cassandra.render(context("cassandra-1", SMALL)), ":")["endpoint_snitch"] == "SimpleSnitch"


@pytest.mark.parametrize("zone", ZONES)
def test_a_zone_is_a_rack_of_kafka(zone):
    """The copies of a partition are spread over racks; two of three must hold a record."""
    conf = rows(kafka.render(context(f"kafka-{zone}")), "=")

    assert (conf["broker.rack"], conf["default.replication.factor"], conf["min.insync.replicas"]) == (f"zone-{zone}", "3", "2")
    assert "broker.rack" not in kafka.render(context("kafka-1", SMALL))


@pytest.mark.parametrize(("zone", "roles"), [(1, "[master, data]"), (2, "[master, data]"), (3, "[master]")])
def test_elasticsearch_keeps_data_in_two_zones_and_votes_in_three(zone, roles):
    """Two of a thing are no quorum; a shard and its copy never share a zone."""
    conf = rows(elasticsearch.render(context(f"elasticsearch-{zone}")), ":")

    assert (conf["node.roles"], conf["node.attr.zone"]) == (roles, f"zone-{zone}")
    assert conf["cluster.routing.allocation.awareness.attributes"] == "zone"
    assert conf["cluster.initial_master_nodes"] == '["elasticsearch-1", "elasticsearch-2", "elasticsearch-3"]'


def test_elasticsearch_without_zones_has_all_roles():
    """The only node of `small` does everything."""
    text = elasticsearch.render(context("elasticsearch-1", SMALL))

    assert "node.roles" not in text and "zone" not in text


@pytest.mark.parametrize("zone", ZONES)
def test_minio_of_several_nodes_knows_all_drives_and_which_are_its_own(zone):
    """Six drives in the same order for all; without its own address it would take every loopback address for itself."""
    ctx = context(f"minio-{zone}")
    launch = SERVERS["minio"].launch(ctx)

    data_dir = ctx.paths.data_dir
    drives = [f"http://127.21.50.{z}:9000{data_dir}/minio-{z}/data/drive-{d}" for z in ZONES for d in (1, 2)]
    assert launch.argv[launch.argv.index("--address") + 1 :] == (f"127.21.50.{zone}:9000", *drives)
    assert {ctx.data / "drive-1", ctx.data / "drive-2"} <= set(launch.folders)
    assert launch.env["_MINIO_SERVER_LOCAL"] == f"127.21.50.{zone}:9000"
    assert launch.env["MINIO_STORAGE_CLASS_STANDARD"] == "EC:2"


def test_minio_alone_keeps_its_one_folder():
    """`small` has one drive, and nothing of a cluster in its environment."""
    ctx = context("minio-1", SMALL)
    launch = SERVERS["minio"].launch(ctx)

    assert launch.argv[-1] == str(ctx.data)
    assert minio.drive_urls(ctx) == []
    assert not {"_MINIO_SERVER_LOCAL", "KUBERNETES_SERVICE_HOST", "MINIO_CI_CD"} & set(launch.env)


@pytest.mark.parametrize(("zone", "order"), [(0, (1, 2, 3)), (1, (1, 2, 3)), (2, (2, 1, 3))])
def test_a_service_uses_the_storage_of_its_own_zone_first(zone, order):
    """The others are spares. Who stands in no zone gets the first."""
    told = settings.parse_stores(services.stores(CLUSTER, Plan(21), zone))

    assert (told.minio, *told.minio_spares) == tuple(f"127.21.50.{n}:9000" for n in order)
    assert settings.parse_stores(services.stores(SMALL, Plan(21))).minio_spares == ()


def test_an_edge_asks_the_other_storages_where_its_own_does_not_answer_or_denies_the_object():
    """They know one signature: the Host header is that of its own, wherever a request goes."""
    text = nginx.conf(nginx.Edge("a:1", "b:9000", Path("/edge"), "polly", spares=("c:9000", "d:9000")))
    alone = nginx.conf(nginx.Edge("a:1", "b:9000", Path("/edge"), "polly"))

    assert "server b:9000 max_fails=1 fail_timeout=1s; server c:9000 backup; server d:9000 backup; keepalive 16;" in text
    assert "proxy_set_header Host b:9000;" in text
    assert "proxy_next_upstream error timeout http_404;" in text
    assert "upstream storage { server b:9000 max_fails=0; keepalive 16; }" in alone
    assert "proxy_next_upstream" not in alone


def test_clients_are_led_to_every_member_that_holds_data():
    """All Cassandra and Kafka nodes; of Elasticsearch those with shards."""
    told = services.stores(CLUSTER, Plan(21))

    assert told["cassandra"] == ["127.21.10.1:9042", "127.21.10.2:9042", "127.21.10.3:9042"]
    assert told["kafka"] == ["127.21.20.1:9092", "127.21.20.2:9092", "127.21.20.3:9092"]
    assert told["elasticsearch"] == ["http://127.21.60.1:9200", "http://127.21.60.2:9200"]


KEY = SimpleNamespace(host="127.21.60.1", port=9200, ssl=True)


def attempt(cause):
    """Return how the client tells one attempt that ended with `cause`."""
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
def test_a_call_certainly_did_nothing_where_no_attempt_reached_a_node(earlier, last, definite):
    """With several nodes a broken connection is tried at the next one; the first may have done it."""
    causes = {"refused": aiohttp.ClientConnectorError(KEY, OSError("refused")), "broken": aiohttp.ServerDisconnectedError()}
    problem = attempt(causes[last])
    problem.errors = tuple(attempt(causes[each]) for each in earlier)

    assert elastic_index.mapped(problem, "urls").definite is definite


def test_data_of_a_lab_with_fewer_members_are_not_started_on(tmp_path):
    """A Cassandra of one refuses another rack, a MinIO of one drive is no piece of six: the message says how to go on."""
    paths = Paths(tmp_path, 199)
    paths.make()
    try:
        preflight.keep_layout(paths, SMALL)
        preflight.check_layout(paths, SMALL)
        with pytest.raises(CouldNotRun, match=r"the data of a lab with 1 cassandra, and 'cluster' has 3.*tweetlab down --purge"):
            preflight.check_layout(paths, CLUSTER)
    finally:
        paths.remove()


def test_the_data_of_a_cluster_are_not_those_of_regions(tmp_path):
    """As many members at other addresses: each etcd would ask for its peers where they were, and find nobody."""
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


def test_a_part_of_a_lab_leaves_what_is_known_of_the_rest(tmp_path):
    """A start of the stores of one kind forgets no other."""
    paths = Paths(tmp_path, 199)
    paths.make()
    try:
        preflight.keep_layout(paths, CLUSTER)
        preflight.keep_layout(paths, blueprint.Blueprint("part", SMALL.of_kind("redis")))
        with pytest.raises(CouldNotRun, match="3 cassandra"):
            preflight.check_layout(paths, SMALL)
    finally:
        paths.remove()


def test_a_cluster_is_refused_where_it_would_not_fit_into_memory():
    """A lab of one of each is left to the machine, as it always was."""
    preflight.check_memory(SMALL, available_mib=1)
    preflight.check_memory(CLUSTER, available_mib=8_192)
    with pytest.raises(CouldNotRun, match=r"'cluster' holds 7\d{3} MiB, and 4000 MiB of memory and swap are free"):
        preflight.check_memory(CLUSTER, available_mib=4_000)
