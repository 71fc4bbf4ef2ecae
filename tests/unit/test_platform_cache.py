"""The cache as primary and replica under sentinels: configuration, and which server a Redis replicates."""

import socket
import threading
from pathlib import Path

import pytest

from system.kernel import settings
from system.kernel.errors import CouldNotRun
from system.platform import blueprint, health
from system.platform.addresses import Plan
from system.platform.paths import Paths
from system.platform.servers import SERVERS, redis, sentinel, services
from system.platform.servers.base import Context

SMALL, CLUSTER = blueprint.load("small"), blueprint.load("cluster")
ONE, TWO = "127.21.30.1:6379", "127.21.30.2:6379"
SENTINELS = ["127.21.32.1:26379", "127.21.32.2:26379", "127.21.32.3:26379"]


def context(kind, instance=1, of=CLUSTER, root=Path("/parrots")):
    node = next(node for node in of.of_kind(kind) if node.instance == instance)
    return Context(node, of, Plan(21), Paths(root, 21))


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Data directories of labs, which some of these tests write, below the test's own folder."""
    monkeypatch.setenv("TWEETLAB_DATA", str(tmp_path))


@pytest.fixture
def replies(monkeypatch):
    """A table (address, first word) -> reply of fake servers; all others refuse connections."""
    table = {}

    def command(address, *words):
        if (address, words[0]) not in table:
            raise health.Unhealthy(f"connection refused on {address}")
        return table[address, words[0]]

    monkeypatch.setattr(sentinel, "command", command)
    return table


def name_primary(table, address, *sentinels):
    for sentinel_address in sentinels:
        table[sentinel_address, "SENTINEL"] = address.split(":")


def test_sentinels_know_each_other_and_the_replica_from_the_start():
    """No discovery before the first failover; two of three must agree, and one replica syncs at a time."""
    text = sentinel.render(context("sentinel", 2))
    lines = text.splitlines()

    assert f"sentinel monitor cache {ONE.replace(':', ' ')} 2" in lines
    assert f"sentinel known-replica cache {TWO.replace(':', ' ')}" in lines
    assert sum(line.startswith("sentinel known-sentinel cache 127.21.32.") for line in lines) == 2
    assert "sentinel parallel-syncs cache 1" in lines
    assert 2_000 <= sentinel.DOWN_AFTER_MS <= 3_000


def test_a_sentinel_has_one_id_and_the_others_know_it_by_that():
    """Derived from the node's name, so that all compute the same."""
    mine = next(line.split()[-1] for line in sentinel.render(context("sentinel", 1)).splitlines() if "myid" in line)
    known = [line.split()[-1] for line in sentinel.render(context("sentinel", 3)).splitlines() if "known-sentinel" in line]

    assert mine in known
    assert len({mine, *known}) == 2 and all(len(each) == 40 for each in known)


def test_a_sentinels_file_is_written_once_and_keeps_its_state(tmp_path, monkeypatch):
    """A restarted sentinel that lost its vote could vote twice; a new supervisor writes a new file."""
    monkeypatch.setattr("system.platform.install.packages.require", lambda binary: binary)
    ctx, server = context("sentinel", root=tmp_path), sentinel.Sentinel()
    [(path, text)] = server.launch(ctx).files.items()
    path.parent.mkdir(parents=True)
    path.write_text(f"{text}sentinel current-epoch 7\n")

    assert server.launch(ctx).files == {}
    assert sentinel.Sentinel().launch(ctx).files == {path: text}


def test_the_stores_of_a_cluster_name_the_sentinels_and_those_of_small_the_server():
    """`group_of` parses what the platform writes."""
    url = services.stores(CLUSTER, Plan(21))["redis"]

    assert settings.group_of(url) == settings.Group(tuple(SENTINELS), "cache", (ONE, TWO))
    assert services.stores(SMALL, Plan(21))["redis"] == ONE


def test_a_redis_without_sentinels_is_not_replicated(replies, monkeypatch):
    """Neither the one of `small`, nor the Redis of the limits in a cluster."""
    monkeypatch.setattr("system.platform.install.packages.require", lambda binary: binary)
    launches = [SERVERS[kind].launch(context(kind, of=of)) for kind, of in (("redis", SMALL), ("limits", CLUSTER))]

    assert not any("repl" in text for launch in launches for text in launch.files.values())
    assert [launch.stale for launch in launches] == [(), ()]


def test_in_a_new_cluster_the_first_redis_is_primary_and_the_second_replicates_it(replies):
    """No sentinel answers yet."""
    conf = [redis.following(ctx, redis.primary_of(ctx)) for ctx in (context("redis", 1), context("redis", 2))]

    assert "replicaof" not in conf[0]
    assert conf[1].endswith(f"replicaof {ONE.replace(':', ' ')}\n")
    assert all("repl-backlog-ttl 0" in text for text in conf)  # or the epoch of a primary without replicas would change


def test_a_restarted_primary_follows_the_majority_of_the_sentinels(replies):
    """One outdated sentinel does not decide."""
    name_primary(replies, TWO, *SENTINELS[:2])
    name_primary(replies, ONE, SENTINELS[2])

    assert redis.primary_of(context("redis", 1)) == TWO


def test_without_a_majority_a_redis_that_is_primary_is_replicated(replies):
    """Two primaries would be worse than one more full sync."""
    replies[TWO, "ROLE"], replies[TWO, "DBSIZE"] = ["master", 7, []], 12

    assert redis.primary_of(context("redis", 1)) == TWO


@pytest.mark.parametrize("majority", [True, False])
def test_an_empty_primary_does_not_start_over_a_replica_with_data(replies, majority):
    """The replica would sync and lose its data; its promotion is in progress."""
    replies[TWO, "ROLE"], replies[TWO, "DBSIZE"] = ["slave", "127.21.30.1", 6379, "connect", -1], 12
    if majority:
        name_primary(replies, ONE, *SENTINELS)

    with pytest.raises(CouldNotRun, match=f"redis-1 is empty, and the replica at {TWO} holds data that it would wipe"):
        redis.primary_of(context("redis", 1))


def test_a_primary_starts_over_an_empty_replica(replies):
    """Otherwise a new cluster whose second Redis started first would never come up."""
    replies[TWO, "ROLE"], replies[TWO, "DBSIZE"] = ["slave", "127.21.30.1", 6379, "connect", -1], 0
    name_primary(replies, ONE, *SENTINELS)

    assert redis.primary_of(context("redis", 1)) == ONE


def test_only_members_of_a_failover_group_restart_after_a_pause():
    """Point 19; the pause outlasts an election that fails once."""
    pauses = {node.kind: node.running.heal_pause_s for node in CLUSTER.nodes if node.running.heal_pause_s}

    assert pauses["redis"] > sentinel.DOWN_AFTER_MS / 1e3 + 2 * sentinel.FAILOVER_TIMEOUT_MS / 1e3
    assert set(pauses) <= {"redis", "postgres"}
    assert not any(node.running.heal_pause_s for node in SMALL.nodes)


def test_a_server_that_is_no_redis_is_reported():
    """Another program listens on the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def respond():
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=respond)
        thread.start()
        with pytest.raises(health.Unhealthy, match="is no Redis"):
            sentinel.command(f"127.0.0.1:{server.getsockname()[1]}", "PING")
        thread.join(5)
