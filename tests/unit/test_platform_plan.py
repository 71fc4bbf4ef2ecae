"""Blueprints, addresses and rendered configuration: data in, text out, nothing started."""

from pathlib import Path

import pytest

from system.kernel import settings
from system.kernel.errors import WrongInput
from system.platform import blueprint
from system.platform.addresses import KINDS, Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.paths import Paths
from system.platform.servers import SERVERS, cassandra, elasticsearch, haproxy, kafka, postgres, redis, services
from system.platform.servers.base import Context

SMALL = blueprint.load("small")


def context(kind, of=SMALL, instance=1):
    node = next(node for node in of.of_kind(kind) if node.instance == instance)
    return Context(node, of, Plan(21), Paths(Path("/parrots"), 21))


def rows(text, separator="="):
    pairs = [line.split(separator, 1) for line in text.splitlines() if separator in line]
    return {key.strip(): value.strip() for key, value in pairs}


def test_small_has_one_node_of_every_kind():
    """`small`: one of each, seven stores (two of them Redis), a mesh, eleven processes of ours."""
    assert sorted(node.kind for node in blueprint.with_observers(SMALL).nodes) == sorted(
        {*KINDS} - {"etcd", "pdns", "sentinel", "wan"})
    assert len(SMALL.of_role("store")) == 7
    assert len(SMALL.of_role("service")) == 11


def test_small_is_expected_to_fit_into_three_and_a_half_gib():
    """The limit of `rss_small_gib`: the sum of the expected memory of all nodes."""
    assert sum(node.memory_mib for node in SMALL.nodes) <= 3.5 * 1024


def test_a_blueprint_survives_a_json_round_trip():
    """The supervisor reads exactly the blueprint that the client wrote."""
    assert blueprint.from_json(SMALL.to_json()) == SMALL


def test_the_error_for_an_unknown_blueprint_suggests_the_closest_name():
    """The message names the value, the known names and the fix."""
    with pytest.raises(WrongInput, match=r"'smalll' is unknown; known are cluster, small, two_regions\. Did you mean 'small'\?"):
        blueprint.load("smalll")


@pytest.mark.parametrize(
    ("kind", "instance", "region", "expected"),
    [
        ("cassandra", 1, 0, "127.21.10.1:9042"),
        ("redis", 2, 0, "127.21.30.2:6379"),
        ("haproxy", 1, 2, "10.22.9.1:8080"),
        ("relay", 1, 1, "10.21.112.1:8000"),
    ],
)
def test_an_address_is_range_or_region_kind_instance_and_the_standard_port(kind, instance, region, expected):
    """127.<range>.<kind>.<instance>, and in a region 10.<range+region-1>.<kind>.<instance>.

    No port arithmetic.
    """
    assert Plan(21).of(kind, instance, region) == expected


@pytest.mark.parametrize("number", [0, 251])
def test_a_range_out_of_bounds_is_refused(number):
    """1 to 250."""
    with pytest.raises(WrongInput, match=f"TWEETLAB_RANGE is {number}"):
        Plan(number)


def test_the_plan_agrees_with_the_services_defaults():
    """The defaults in the kernel's settings are the addresses of `small`."""
    assert services.stores(SMALL, Plan(21)) == settings.default_stores(21)
    assert services.mesh(Plan(21).of("haproxy")) == settings.default_mesh(21)


def test_every_kind_has_a_server():
    """A kind without a module could never start."""
    assert set(SERVERS) == set(KINDS)


def test_haproxy_retries_only_reads():
    """A POST or DELETE is never sent twice: retries are off for every method but GET, in every backend."""
    text = haproxy.render(context("haproxy"))

    assert text.count("http-request disable-l7-retry if !METH_GET") == 7
    assert text.count("option httpchk GET /health") == 7


def test_a_services_only_instance_is_always_reachable():
    """While none passes its checks, requests go to the blueprint's instance: a server without checks."""
    text = haproxy.render(context("haproxy"))

    assert text.count(" backup no-check") == 7
    assert "server last-resort-1 127.21.103.1:8000 backup no-check" in text


def test_haproxy_itself_answers_the_null_route_only_at_the_public_frontend():
    """GET :8080/null never reaches a service: it measures the machine."""
    text = haproxy.render(context("haproxy"))

    assert text.count("path /null") == 1
    assert "bind 127.21.9.1:8080\n    http-request return status 200" in text


def test_haproxy_keeps_connections_of_clients_and_knows_every_instance():
    """Keep-alive is on; a second timelines instance is a second row."""
    two = Blueprint("two", (*SMALL.nodes, Node("timelines-2", "timelines", "service", instance=2)))
    text = haproxy.render(context("haproxy", of=two))

    assert "option http-keep-alive" in text
    assert "server timelines-1 127.21.103.1:8000" in text
    assert "server timelines-2 127.21.103.2:8000" in text


def test_redis_persists_nothing_and_evicts_nothing():
    """A restart is a cache loss; a timeline with an evicted part would look complete."""
    text = redis.render(context("redis"))

    assert 'save ""' in text
    assert "appendonly no" in text
    assert "maxmemory-policy noeviction" in text


def test_postgres_is_durable_and_trusts_only_loopback():
    """Acknowledged means durable; other clients are refused."""
    launch = SERVERS["postgres"].launch(context("postgres")) if postgres.Postgres else None
    conf = rows(postgres.render(context("postgres"), "/hba"))
    hba = next(text for path, text in launch.files.items() if path.name == "pg_hba.conf")

    assert (conf["fsync"], conf["synchronous_commit"]) == ("on", "on")
    assert conf["listen_addresses"] == "'127.21.40.1'"
    assert {line.split()[3] for line in hba.splitlines()} == {"127.0.0.0/8"}


def test_kafka_creates_no_topic_implicitly_and_allows_short_sessions():
    """Misspelled topics stay errors; a group can detect a dead member after two seconds."""
    conf = rows(kafka.render(context("kafka")))

    assert conf["auto.create.topics.enable"] == "false"
    assert conf["group.min.session.timeout.ms"] == "2000"
    assert conf["controller.quorum.voters"] == "1@127.21.20.1:9093"


def test_with_three_kafka_brokers_two_must_acknowledge():
    """Replication follows the blueprint: three replicas, two must have a record."""
    three = Blueprint("three", tuple(Node(f"kafka-{i}", "kafka", "store", instance=i) for i in (1, 2, 3)))
    conf = rows(kafka.render(context("kafka", of=three, instance=2)))

    assert (conf["default.replication.factor"], conf["min.insync.replicas"], conf["node.id"]) == ("3", "2", "2")
    assert conf["controller.quorum.voters"] == "1@127.21.20.1:9093,2@127.21.20.2:9093,3@127.21.20.3:9093"


def test_cassandra_acknowledges_after_the_fsync():
    """`commitlog_sync: batch`: a SIGKILL loses no acknowledged write."""
    conf = rows(cassandra.render(context("cassandra")), ":")

    assert conf["commitlog_sync"] == "batch"
    assert conf["auto_bootstrap"] == "false"


def test_cassandra_nodes_start_with_tokens_spread_over_the_ring():
    """A third of the ring each, so that new nodes may start in parallel."""
    assert [cassandra.token(i, 3) for i in (1, 2, 3)] == [-(2**63), -(2**63) + 2**64 // 3, -(2**63) + 2 * (2**64 // 3)]


def test_a_single_elasticsearch_discovers_no_peers():
    """It must not wait for others."""
    assert "discovery.type: single-node" in elasticsearch.render(context("elasticsearch"))


def test_a_caller_cannot_override_where_a_service_listens():
    """The caller's environment adds policies and secrets; the platform sets address and name."""
    base = context("timelines")
    env = {"TWEETLAB_POLICIES": "{}", "TWEETLAB_LISTEN": "0.0.0.0:80"}
    launch = SERVERS["timelines"].launch(Context(base.node, base.blueprint, base.plan, base.paths, env))

    assert launch.env["TWEETLAB_LISTEN"] == "127.21.103.1:8000"
    assert launch.env["TWEETLAB_INSTANCE"] == "timelines-1"
    assert launch.env["TWEETLAB_POLICIES"] == "{}"
    assert launch.argv[1:] == ("-m", "system.services.timelines.app")


def test_checkouts_and_ranges_never_share_a_data_directory():
    """Its name is derived from checkout, range and user, and short enough for a Unix socket."""
    paths = [Paths(Path(root), number) for root in ("/parrots", "/" + "deep/" * 60) for number in (1, 2)]

    assert len({row.data_dir for row in paths}) == 4
    assert all(len(str(row.socket)) < 108 for row in paths)
