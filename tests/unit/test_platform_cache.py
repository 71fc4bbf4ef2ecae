"""The cache as primary and replica under sentinels: rendered configuration, and whom a Redis follows when it starts."""

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
WATCH = ["127.21.32.1:26379", "127.21.32.2:26379", "127.21.32.3:26379"]


def context(kind, instance=1, of=CLUSTER, root=Path("/parrots")):
    node = next(node for node in of.of_kind(kind) if node.instance == instance)
    return Context(node, of, Plan(21), Paths(root, 21))


@pytest.fixture
def say(monkeypatch):
    """Let servers answer by a table (address, first word) -> answer; the others refuse."""
    table = {}

    def asked(address, *words):
        if (address, words[0]) not in table:
            raise health.Unhealthy(f"connection refused on {address}")
        return table[address, words[0]]

    monkeypatch.setattr(sentinel, "asked", asked)
    return table


def name(table, address, *watch):
    for each in watch:
        table[each, "SENTINEL"] = address.split(":")


def test_sentinels_know_each_other_and_the_replica_from_their_first_line_on():
    """Nothing has to be found out before the first failover; two of three must agree, and one replica follows at a time."""
    text = sentinel.render(context("sentinel", 2))
    lines = text.splitlines()

    assert f"sentinel monitor cache {ONE.replace(':', ' ')} 2" in lines
    assert f"sentinel known-replica cache {TWO.replace(':', ' ')}" in lines
    assert sum(line.startswith("sentinel known-sentinel cache 127.21.32.") for line in lines) == 2
    assert "sentinel parallel-syncs cache 1" in lines
    assert 2_000 <= sentinel.DOWN_AFTER_MS <= 3_000


def test_a_sentinel_has_one_id_and_the_others_know_it_by_that():
    """Derived from the node's name, so that all agree on it without a word."""
    mine = next(line.split()[-1] for line in sentinel.render(context("sentinel", 1)).splitlines() if "myid" in line)
    known = [line.split()[-1] for line in sentinel.render(context("sentinel", 3)).splitlines() if "known-sentinel" in line]

    assert mine in known
    assert len({mine, *known}) == 2 and all(len(each) == 40 for each in known)


def test_a_sentinel_writes_its_file_once_and_keeps_what_it_learnt(tmp_path, monkeypatch):
    """A healed one that forgot its vote could vote twice; a supervisor that starts again begins again."""
    monkeypatch.setattr("system.platform.install.packages.need", lambda binary: binary)
    ctx, server = context("sentinel", root=tmp_path), sentinel.Sentinel()
    [(path, text)] = server.launch(ctx).files.items()
    path.parent.mkdir(parents=True)
    path.write_text(f"{text}sentinel current-epoch 7\n")

    assert server.launch(ctx).files == {}
    assert sentinel.Sentinel().launch(ctx).files == {path: text}


def test_the_stores_of_a_cluster_name_the_sentinels_and_those_of_small_the_server():
    """What `group_of` reads is what the platform writes."""
    told = services.stores(CLUSTER, Plan(21))["redis"]

    assert settings.group_of(told) == settings.Group(tuple(WATCH), "cache", (ONE, TWO))
    assert services.stores(SMALL, Plan(21))["redis"] == ONE


def test_a_redis_without_sentinels_is_what_it_was(say, monkeypatch):
    """`small` asks nobody and replicates nothing; neither does the Redis of the limits in a cluster."""
    monkeypatch.setattr("system.platform.install.packages.need", lambda binary: binary)
    alone = [SERVERS[kind].launch(context(kind, of=of)) for kind, of in (("redis", SMALL), ("limits", CLUSTER))]

    assert not any("repl" in text for launch in alone for text in launch.files.values())
    assert [launch.stale for launch in alone] == [(), ()]


def test_in_a_fresh_cluster_the_first_redis_is_the_primary_and_the_second_follows(say):
    """No sentinel answers yet."""
    conf = [redis.following(ctx, redis.primary_of(ctx)) for ctx in (context("redis", 1), context("redis", 2))]

    assert "replicaof" not in conf[0]
    assert conf[1].endswith(f"replicaof {ONE.replace(':', ' ')}\n")
    assert all("repl-backlog-ttl 0" in text for text in conf)  # or the epoch of a primary without replicas would change


def test_a_healed_primary_follows_whom_most_sentinels_name(say):
    """One that is behind does not decide."""
    name(say, TWO, *WATCH[:2])
    name(say, ONE, WATCH[2])

    assert redis.primary_of(context("redis", 1)) == TWO


def test_where_no_majority_answers_a_redis_that_is_primary_is_followed(say):
    """Two primaries would be worse than a cache that is synchronised once more."""
    say[TWO, "ROLE"], say[TWO, "DBSIZE"] = ["master", 7, []], 12

    assert redis.primary_of(context("redis", 1)) == TWO


@pytest.mark.parametrize("majority", [True, False])
def test_an_empty_primary_does_not_start_over_a_replica_that_holds_something(say, majority):
    """The replica would copy the emptiness; its promotion is under way."""
    say[TWO, "ROLE"], say[TWO, "DBSIZE"] = ["slave", "127.21.30.1", 6379, "connect", -1], 12
    if majority:
        name(say, ONE, *WATCH)

    with pytest.raises(CouldNotRun, match=f"redis-1 is empty, and the replica at {TWO} holds what it would wipe"):
        redis.primary_of(context("redis", 1))


def test_over_an_empty_replica_a_primary_starts(say):
    """Or a fresh cluster, whose second Redis was quicker, would never come up."""
    say[TWO, "ROLE"], say[TWO, "DBSIZE"] = ["slave", "127.21.30.1", 6379, "connect", -1], 0
    name(say, ONE, *WATCH)

    assert redis.primary_of(context("redis", 1)) == ONE


def test_members_of_a_failover_group_are_healed_after_a_pause_and_nobody_else():
    """Point 19; the pause outlasts an election that fails once."""
    pauses = {node.kind: node.running.heal_pause_s for node in CLUSTER.nodes if node.running.heal_pause_s}

    assert pauses["redis"] > sentinel.DOWN_AFTER_MS / 1e3 + 2 * sentinel.FAILOVER_TIMEOUT_MS / 1e3
    assert set(pauses) <= {"redis", "postgres"}
    assert not any(node.running.heal_pause_s for node in SMALL.nodes)


def test_something_else_than_a_redis_at_a_sentinels_address_is_told():
    """Another program took the port."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        def answer():
            link, _ = door.accept()
            with link:
                link.recv(4096)
                link.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        talker = threading.Thread(target=answer)
        talker.start()
        with pytest.raises(health.Unhealthy, match="is no Redis"):
            sentinel.asked(f"127.0.0.1:{door.getsockname()[1]}", "PING")
        talker.join(5)
