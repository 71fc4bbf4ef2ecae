"""MinIO: media. Its repository is archived, so the version is pinned and our client speaks plain S3.

Of several nodes each has DRIVES drives; an object is cut into pieces over all drives, PARITY of them to spare, so that a node may
be lost: at three nodes of two drives, four pieces of six make the object, and four must be written.
"""

from __future__ import annotations

from pathlib import Path

from system.platform import health
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

ACCESS_KEY = "tweetlab"
SECRET_KEY = "tweetlab-secret"  # the lab listens on loopback alone; this is a name, not a secret


DRIVES = 2  # of a node, where there are several
PARITY = 2


class MinIO:
    """MinIO, compiled once into the cache."""

    package = packages.MINIO
    start_timeout_s = 60.0  # three that wait for each other, beside other labs on two cores: 28 s measured

    def launch(self, ctx: Context) -> Launch:
        program = packages.home(packages.MINIO) / "minio"
        env = {
            **base_env(ctx),
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": SECRET_KEY,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_PROMETHEUS_AUTH_TYPE": "public",  # its own counts, to whoever reaches the loopback address
            # The web client puts pictures straight to storage: its page's origin may, no other page of a browser.
            "MINIO_API_CORS_ALLOW_ORIGIN": ",".join(f"http://{door}" for door in ctx.addresses("haproxy")) or "null",
            "MINIO_SCANNER_SPEED": "slowest",  # its background scan would burn CPU in measured runs
            "GOMAXPROCS": str(ctx.node.running.processors or 2),
            **_among_others(ctx),
        }
        drives = [url.partition("/")[2] for url in drive_urls(ctx) if url.startswith(ctx.address)]
        where = [f"http://{url}" for url in drive_urls(ctx)] or [str(ctx.data)]
        return Launch(
            argv=(str(program), "server", "--quiet", "--certs-dir", str(ctx.config), "--address", ctx.address, *where),
            env=env,
            folders=(ctx.data, ctx.config, *(Path("/", drive) for drive in drives)),
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        # Among others it is ready before it sees their drives, and refuses writes until then.
        return await health.http(ctx.address, "/minio/health/cluster" if drive_urls(ctx) else "/minio/health/ready")

    def version(self) -> str:
        return packages.MINIO.version


def drive_urls(ctx: Context) -> list[str]:
    """Return host:port/path of every drive of the lab, the same for all nodes; none where a node is alone."""
    nodes = ctx.blueprint.of_kind("minio")
    if len(nodes) == 1:
        return []
    paths = [(ctx.plan.of(node.kind, node.instance, node.region), ctx.paths.data(node.name)) for node in nodes]
    return [f"{address}{data}/drive-{number}" for address, data in paths for number in range(1, DRIVES + 1)]


def _among_others(ctx: Context) -> dict[str, str]:
    """Return what a node of several needs besides.

    It takes every loopback address for its own, and so every drive, unless it is told its address; it listens to that only
    where it believes to be orchestrated. Drives on the disk of the system are refused but in tests.
    """
    if not drive_urls(ctx):
        return {}
    return {
        "MINIO_STORAGE_CLASS_STANDARD": f"EC:{PARITY}",
        "MINIO_CI_CD": "on",
        "KUBERNETES_SERVICE_HOST": "none",
        "_MINIO_SERVER_LOCAL": ctx.address,
    }
