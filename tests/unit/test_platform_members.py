"""PostgreSQL's members under Patroni, and their etcd: rendered configuration and probes, nothing started."""

import itertools
import json
from pathlib import Path

import pytest

from system.platform import blueprint, health
from system.platform.addresses import Plan
from system.platform.install import packages, preflight
from system.platform.paths import Paths
from system.platform.servers import etcd, patroni, postgres, services
from system.platform.servers.base import Context

SMALL, CLUSTER = blueprint.load("small"), blueprint.load("cluster")


def context(kind, of=CLUSTER, instance=1):
    node = next(node for node in of.of_kind(kind) if node.instance == instance)
    return Context(node, of, Plan(21), Paths(Path("/parrots"), 21))


def flags(words):
    return {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}


def test_each_member_of_etcd_knows_all_three_by_name():
    """They vote: a member that knows two of them would form another quorum."""
    args = flags(etcd.arguments(context("etcd", instance=2)))

    assert args["--name"] == "etcd-2"
    assert args["--listen-client-urls"] == "http://127.21.41.2:2379"
    assert args["--initial-cluster"] == (
        "etcd-1=http://127.21.41.1:2380,etcd-2=http://127.21.41.2:2380,etcd-3=http://127.21.41.3:2380")


def test_an_etcd_election_ends_before_a_primary_gives_up_its_key():
    """A primary that cannot renew its key for retry_timeout demotes itself."""
    assert 5 * etcd.HEARTBEAT_MS <= etcd.ELECTION_MS < 1_000 * patroni.RETRY_S


def test_a_primary_without_a_standby_acknowledges_nothing_and_its_key_lives_long_enough():
    """Strict synchronous mode.

    Ttl >= loop_wait + 2 x retry_timeout, or a slow etcd request would cause a failover.
    """
    dcs = patroni.render(context("postgres"))["bootstrap"]["dcs"]

    assert (dcs["synchronous_mode"], dcs["synchronous_mode_strict"], dcs["synchronous_node_count"]) == (True, True, 1)
    assert dcs["ttl"] >= dcs["loop_wait"] + 2 * dcs["retry_timeout"]


def test_a_member_that_was_down_rejoins_by_rewinding():
    """pg_rewind requires WAL hints or checksums, and old WAL; a full copy is the last resort."""
    config = patroni.render(context("postgres"))

    assert config["bootstrap"]["dcs"]["postgresql"]["use_pg_rewind"] is True
    assert config["bootstrap"]["dcs"]["postgresql"]["parameters"]["wal_log_hints"] == "on"
    assert "data-checksums" in config["bootstrap"]["initdb"]
    assert config["postgresql"]["parameters"]["wal_keep_size"] == "512MB"
    assert config["postgresql"]["remove_data_directory_on_rewind_failure"] is True


def test_a_member_listens_on_its_own_addresses_and_keeps_the_settings_of_a_single_server():
    """Patroni sets port and address; everything else is as in `small`, with fsync on."""
    ctx = context("postgres", instance=3)
    config = patroni.render(ctx)

    assert config["name"] == "postgres-3"
    assert config["restapi"]["listen"] == "127.21.40.3:8008"
    assert config["postgresql"]["listen"] == "127.21.40.3:5432"
    assert config["etcd3"]["hosts"] == ["127.21.41.1:2379", "127.21.41.2:2379", "127.21.41.3:2379"]
    parameters = config["postgresql"]["parameters"]
    assert (parameters["fsync"], parameters["synchronous_commit"], parameters["lc_messages"]) == ("on", "on", "C")
    assert not {"port", "listen_addresses", "max_connections", "wal_level"} & set(parameters)


def test_a_restart_leaves_the_others_time_for_a_new_primary():
    """Longer than the ttl of the old primary's key plus an etcd election that starts it again."""
    for node in CLUSTER.of_kind("postgres"):
        assert node.running.heal_pause_s > patroni.TTL_S + 2 * etcd.ELECTION_MS / 1_000


def test_patroni_runs_on_debians_python_as_the_user_that_owns_postgresql(monkeypatch):
    """That user may not be able to enter our environment.

    Its PostgreSQL leaves the process tree, its pid file identifies it.
    """
    monkeypatch.setattr(packages, "postgres_bin", lambda: Path("/aviary/bin"))
    ctx = context("postgres")

    launch = patroni.Member().launch(ctx)

    assert launch.argv == ("/usr/bin/python3", "/usr/bin/patroni", str(ctx.config / "patroni.json"))
    assert launch.drops_root
    assert launch.escapes == ctx.data / "postmaster.pid"
    assert json.loads(launch.files[ctx.config / "patroni.json"])["postgresql"]["bin_dir"] == "/aviary/bin"


def test_small_starts_a_single_server_without_further_steps(monkeypatch):
    """No Patroni, no wait, no packages of `cluster`: exactly the launch of a single server."""
    monkeypatch.setattr(packages, "postgres_bin", lambda: Path("/aviary/bin"))
    checked = []
    monkeypatch.setattr(packages, "missing", lambda package: checked.append(package) or "")
    ctx = context("postgres", of=SMALL)

    preflight.check_programs(SMALL)

    assert patroni.Member().launch(ctx) == postgres.Postgres().launch(ctx)
    assert patroni.Member().launch(ctx).argv[0] == "/aviary/bin/postgres"
    assert not set(packages.BY_BLUEPRINT["cluster"]) & set(checked)
    assert services.stores(SMALL, Plan(21))["postgres"] == "postgresql://tweetlab@127.21.40.1:5432"


def test_a_missing_program_of_a_cluster_is_named(monkeypatch):
    """Before anything starts."""
    monkeypatch.setattr(packages, "missing", lambda package: "`patroni` is missing." if package.name == "patroni" else "")

    with pytest.raises(Exception, match="`patroni` is missing"):
        preflight.check_programs(CLUSTER)


def test_services_of_a_cluster_connect_to_the_primary():
    """All members in one URL; the driver selects the one that accepts writes."""
    assert services.stores(CLUSTER, Plan(21))["postgres"] == (
        "postgresql://tweetlab@127.21.40.1:5432,127.21.40.2:5432,127.21.40.3:5432/?target_session_attrs=read-write")


@pytest.mark.parametrize(("takes_part", "primary", "named", "answer"), [
    (True, False, False, "standby, streaming"),
    (True, True, True, "primary, with a synchronous standby"),
    (True, True, False, "Unhealthy"),   # just promoted: no standby may be promoted next yet
    (False, True, True, "Unhealthy"),   # a primary without a synchronous standby acknowledges nothing
    (False, False, False, "Unhealthy"), # a standby that does not stream
])  # fmt: skip
async def test_a_member_is_healthy_when_it_takes_part_in_replication(monkeypatch, takes_part, primary, named, answer):
    """An answering process is not enough: a lab is up only when it survives the loss of one member."""
    async def execute(address, role, database, statement):
        yes = takes_part if statement == patroni.TAKES_PART else primary
        return f"SELECT {int(yes)}"

    async def http(address, path, expect=()):
        if expect and not named:
            raise health.Unhealthy("no sync_standby")
        return "200"

    monkeypatch.setattr(health, "postgres_execute", execute)
    monkeypatch.setattr(health, "http", http)
    try:
        result = await patroni.Member().probe(context("postgres"))
    except health.Unhealthy:
        result = "Unhealthy"

    assert result == answer


async def test_the_primary_is_the_member_that_is_not_in_recovery(monkeypatch):
    """A dead member is skipped.

    Without a primary the error has each answer; a single server is not probed.
    """
    async def execute(address, role, database, statement):
        if address == "a":
            raise health.Unhealthy("connection refused on a")
        return "SELECT 1" if address == "c" else "SELECT 0"

    monkeypatch.setattr(health, "postgres_execute", execute)

    assert await health.postgres_primary(["a", "b", "c"], "r", "d") == "c"
    assert await health.postgres_primary(["a"], "r", "d") == "a"
    with pytest.raises(health.Unhealthy, match="connection refused on a; b is a standby"):
        await health.postgres_primary(["a", "b"], "r", "d")
