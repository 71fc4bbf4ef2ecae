"""PostgreSQL as members under Patroni if a blueprint has etcd; a plain single server if it has none.

One node is one member: Patroni and the PostgreSQL that it starts. Patroni decides, by a key with a time to
live in etcd, which member is the primary. A commit is acknowledged when the synchronous standby has flushed
it; strict: without one it is not acknowledged at all. Only that standby may be promoted, so a new primary has
every acknowledged commit. An acknowledged commit is on two of three members, so a read of all but one of them
misses none. Revocations are read like that while no primary answers, so their commit waits until the standby
has applied it too (`remote_apply`, in postgres/tokens.sql).

Patroni runs on Debian's Python, as the user that owns PostgreSQL: that user may not be able to enter our
environment.
"""

from __future__ import annotations

import json
from typing import Any

from system.kernel.errors import CouldNotRun
from system.platform import health
from system.platform.blueprint import Blueprint
from system.platform.install import packages
from system.platform.servers import postgres
from system.platform.servers.base import Context, Launch, Step, base_env
from system.platform.servers.postgres import ROLE

PYTHON = "/usr/bin/python3"
REST_PORT = 8008
TTL_S, LOOP_WAIT_S, RETRY_S = 6, 1, 2  # Patroni requires ttl >= loop_wait + 2 x retry_timeout
MAX_CONNECTIONS = 400  # two instances of each service
WAL_KEEP = "512MB"  # WAL for a member that was down to catch up from; beyond that it is copied again
REWIND_OR_COPY = True

# A member that starts before etcd answers would wait 5 s before it retries; this polls every 50 ms, for 20 s
# at most.
WAIT_FOR_ETCD = """
import sys, time, urllib.request
end = time.monotonic() + 20
while time.monotonic() < end:
    for url in sys.argv[1:]:
        try:
            if b'"true"' in urllib.request.urlopen(url + "/health", timeout=1).read():
                sys.exit(0)
        except OSError:
            pass
    time.sleep(0.05)
"""

# A lab with regions starts with its primary in the first: the other members wait until that has created the
# cluster.
WAIT_FOR_FIRST = """
import sys, time, urllib.request
end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        urllib.request.urlopen(sys.argv[1] + "/health", timeout=1)
        sys.exit(0)
    except OSError:
        time.sleep(0.1)
"""

# True for a standby that streams, and for a primary with a synchronous standby, without which it acknowledges
# nothing.
TAKES_PART = (
    "SELECT WHERE CASE WHEN pg_is_in_recovery() THEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') "
    "ELSE EXISTS (SELECT FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync') END"
)


def governs(blueprint: Blueprint) -> bool:
    """Return whether Patroni manages the PostgreSQL of this blueprint."""
    return bool(blueprint.of_kind("etcd"))


class Member(postgres.Postgres):
    """A member under Patroni, or a single PostgreSQL, depending on the blueprint."""

    @property
    def start_timeout_s(self) -> float:  # type: ignore[override]
        return 150.0  # a rejoining member may have to be copied; a first one next to other labs on two cores took over 60 s

    def launch(self, ctx: Context) -> Launch:
        if not governs(ctx.blueprint):
            return super().launch(ctx)
        if ctx.programs.postgres() is None:
            raise CouldNotRun(packages.missing(packages.POSTGRES))
        conf = ctx.config / "patroni.json"  # JSON is YAML
        etcd = [f"http://{address}" for address in ctx.addresses("etcd")]
        return Launch(
            argv=(PYTHON, packages.PATRONI.binary, str(conf)),
            env=base_env(ctx),
            files={conf: json.dumps(render(ctx), indent=1)},
            before=(Step((PYTHON, "-c", WAIT_FOR_ETCD, *etcd), unless=ctx.config / "never", env=base_env(ctx)),
                    *_after_first(ctx)),
            stale=(ctx.data / "postmaster.pid",),
            escapes=ctx.data / "postmaster.pid",
            drops_root=True,
            stop_timeout_s=20.0,
        )

    async def probe(self, ctx: Context) -> str:
        """Healthy if it is a streaming standby, or a primary with a standby that may be promoted."""
        if not governs(ctx.blueprint):
            return await super().probe(ctx)
        rest = f"{ctx.host}:{REST_PORT}"
        await health.http(rest, "/health")
        if await health.postgres_execute(ctx.address, ROLE, "postgres", TAKES_PART) != "SELECT 1":
            raise health.Unhealthy("it runs, but does not stream (a standby), or sees no synchronous standby (a primary)")
        if await health.postgres_execute(ctx.address, ROLE, "postgres", health.IS_PRIMARY) != "SELECT 1":
            return "standby, streaming"
        # For some seconds after a promotion the flush of any standby counts, and etcd names none that may be
        # promoted.
        await health.http(rest, "/cluster", ('"sync_standby"',))
        return "primary, with a synchronous standby"


def _after_first(ctx: Context) -> list[Step]:
    if not ctx.node.region or ctx.node.instance == 1:
        return []
    first = f"http://{ctx.addresses('postgres')[0].rpartition(':')[0]}:{REST_PORT}"
    return [Step((PYTHON, "-c", WAIT_FOR_FIRST, first), unless=ctx.data / "PG_VERSION", env=base_env(ctx))]


def render(ctx: Context) -> dict[str, Any]:
    """Return the member's patroni.json."""
    programs = ctx.programs.postgres()
    credentials = {"username": ROLE}
    return {
        "scope": "tweetlab",
        "namespace": f"/{ctx.paths.lab_id}/",
        "name": ctx.node.name,
        "restapi": {"listen": f"{ctx.host}:{REST_PORT}", "connect_address": f"{ctx.host}:{REST_PORT}"},
        "etcd3": {"hosts": ctx.addresses("etcd")},
        "watchdog": {"mode": "off"},  # may lack a device; strict synchronous mode stops a thawed primary from acknowledging
        "bootstrap": {
            "dcs": {
                "ttl": TTL_S,
                "loop_wait": LOOP_WAIT_S,
                "retry_timeout": RETRY_S,
                "synchronous_mode": True,
                "synchronous_mode_strict": True,
                "synchronous_node_count": 1,
                # Slots are created one loop after a promotion; until then no standby would stream and nothing
                # be acknowledged.
                "postgresql": {"use_pg_rewind": True, "use_slots": False, "parameters": shared(ctx)},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}, "data-checksums", "no-sync"],
        },
        "postgresql": {
            "listen": ctx.address,
            "connect_address": ctx.address,
            "data_dir": str(ctx.data),
            "bin_dir": str(programs or ""),
            "pgpass": str(ctx.config / "pgpass"),
            "authentication": {"superuser": credentials, "replication": credentials, "rewind": credentials},
            "pg_hba": postgres.host_rules(ctx),
            "parameters": own_parameters(ctx),
            "basebackup": [{"checkpoint": "fast"}, "no-sync"],
            "remove_data_directory_on_rewind_failure": REWIND_OR_COPY,
            "remove_data_directory_on_diverged_timelines": REWIND_OR_COPY,
        },
    }


SHARED = ("max_connections", "max_worker_processes", "wal_level")


def own_parameters(ctx: Context) -> dict[str, str]:
    """Return the parameters of one member. Patroni itself sets address, port and SHARED."""
    plain = {name: value.strip("'") for name, value in postgres.parameters(ctx).items()}
    further = {
        "max_standby_streaming_delay": "2s",
        "wal_keep_size": WAL_KEEP,
        "wal_sender_timeout": "5s",
        "wal_receiver_timeout": "5s",
        "wal_receiver_status_interval": "1s",
        "wal_retrieve_retry_interval": "500ms",
    }
    return {name: value for name, value in {**plain, **further}.items() if name not in ("listen_addresses", "port", *SHARED)}


def shared(ctx: Context) -> dict[str, Any]:
    """Return the parameters that must be equal on all members; Patroni stores them in etcd."""
    return {
        "max_connections": MAX_CONNECTIONS,
        "max_worker_processes": int(postgres.parameters(ctx)["max_worker_processes"]),
        "wal_level": "replica",
        "wal_log_hints": "on",  # required by pg_rewind to rejoin an old primary
        "hot_standby": "on",
        "max_wal_senders": 8,
        "max_replication_slots": 8,
    }
