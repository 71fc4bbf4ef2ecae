"""MinIO: media. Its repository is archived, so the version is pinned and our client speaks plain S3.

With several nodes, each has DRIVES drives; an object is erasure-coded over all drives with PARITY parity
shards, so that a node may be lost: with three nodes of two drives, any four of six shards restore the object,
and four must be written.
"""

from __future__ import annotations

from pathlib import Path

from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

ACCESS_KEY = "tweetlab"
SECRET_KEY = "tweetlab-secret"  # the lab listens on loopback alone; this is a name, not a secret


DRIVES = 2  # per node, if there are several nodes
PARITY = 2


class MinIO:
    """MinIO, compiled once into the cache."""

    package = packages.MINIO
    start_timeout_s = 60.0  # three that wait for each other, next to other labs on two cores: 28 s measured

    def launch(self, ctx: Context) -> Launch:
        program = ctx.programs.go(packages.MINIO)
        env = {
            **base_env(ctx),
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_PROMETHEUS_AUTH_TYPE": "public",  # its metrics, for anything that reaches the loopback address
            # The web client uploads pictures directly to storage: only the origin of its page may.
            "MINIO_API_CORS_ALLOW_ORIGIN": ",".join(page_origins(ctx)) or "null",
            "MINIO_SCANNER_SPEED": "slowest",  # its background scan would burn CPU in measured runs
            "GOMAXPROCS": str(ctx.node.running.processors or 2),
            **_cluster_env(ctx),
        }
        drives = [url.partition("/")[2] for url in drive_urls(ctx) if url.startswith(ctx.address)]
        volumes = [f"http://{url}" for url in drive_urls(ctx)] or [str(ctx.data)]
        return Launch(
            argv=(program, "server", "--quiet", "--certs-dir", str(ctx.config), "--address", ctx.address, *volumes),
            env=env,
            folders=(ctx.data, ctx.config, *(Path("/", drive) for drive in drives)),
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        # With several nodes it is ready before it sees the other nodes' drives, and refuses writes until
        # then.
        return await health.http(ctx.address, "/minio/health/cluster" if drive_urls(ctx) else "/minio/health/ready")

    def version(self) -> str:
        return packages.MINIO.version


def page_origins(ctx: Context) -> list[str]:
    """Return the origins of the web client's page; TWEETLAB_ORIGINS adds some, such as a published port."""
    return [*(f"http://{address}" for address in ctx.addresses("haproxy")), *ctx.env.get("TWEETLAB_ORIGINS", "").split()]


def drive_urls(ctx: Context) -> list[str]:
    """Return host:port/path of every drive of the lab, the same for all nodes; [] for a single node."""
    nodes = ctx.blueprint.of_kind("minio")
    if len(nodes) == 1:
        return []
    paths = [(ctx.plan.of(node.kind, node.instance, node.region), ctx.paths.data(node.name)) for node in nodes]
    return [f"{address}{data}/drive-{number}" for address, data in paths for number in range(1, DRIVES + 1)]


def _cluster_env(ctx: Context) -> dict[str, str]:
    """Return the further environment of a node in a lab with several.

    MinIO treats every loopback address as its own, and so every drive, unless its address is configured; it
    honors that setting only if it believes it runs under an orchestrator. It refuses drives on the system's
    disk except in CI mode.
    """
    if not drive_urls(ctx):
        return {}
    return {
        "MINIO_STORAGE_CLASS_STANDARD": f"EC:{PARITY}",
        "MINIO_CI_CD": "on",
        "KUBERNETES_SERVICE_HOST": "none",
        "_MINIO_SERVER_LOCAL": ctx.address,
    }
