"""etcd: three members that store which PostgreSQL member is primary.

Only blueprints with several members have it.
"""

from __future__ import annotations

from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

PEER_PORT = 2380
HEARTBEAT_MS = 100
ELECTION_MS = 600  # up to twice that; plus one hung request of 1 s still below the 2 s after which a primary gives up its key


class Etcd:
    """Debian's etcd 3.4, API v3."""

    package = packages.ETCD
    start_timeout_s = 30.0

    def launch(self, ctx: Context) -> Launch:
        return Launch(
            argv=(ctx.programs.require("etcd"), *arguments(ctx)),
            # Its log as JSON lines; the version 2 store is not served.
            env={**base_env(ctx), "ETCD_LOGGER": "zap", "ETCD_LOG_OUTPUTS": "stderr"},
            folders=(ctx.data,),
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        """Healthy once it sees a leader, that is, once it is part of a quorum."""
        return await health.http(ctx.address, "/health", ('"health":"true"',))

    def version(self) -> str:
        line = packages.version_line([packages.find("etcd") or "etcd", "--version"])
        return line.rpartition(" ")[2]


def arguments(ctx: Context) -> tuple[str, ...]:
    """Return the member's command-line arguments: where it listens and its peers."""
    peers = ",".join(f"{node.name}=http://{ctx.plan.host('etcd', node.instance, node.region)}:{PEER_PORT}"
                     for node in ctx.blueprint.of_kind("etcd"))
    own, peer = f"http://{ctx.address}", f"http://{ctx.host}:{PEER_PORT}"
    return (
        "--name", ctx.node.name,
        "--data-dir", str(ctx.data),
        "--listen-client-urls", own, "--advertise-client-urls", own,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", peers,
        "--initial-cluster-token", ctx.paths.lab_id,
        "--initial-cluster-state", "new",
        "--heartbeat-interval", str(HEARTBEAT_MS), "--election-timeout", str(ELECTION_MS),
        "--auto-compaction-mode", "periodic", "--auto-compaction-retention", "5m",
        "--enable-v2=false",
        # A member that was cut off has raised its term with elections: with pre-vote the others refuse it and
        # keep their leader.
        *(("--pre-vote",) if ctx.node.region else ()),
    )  # fmt: skip
