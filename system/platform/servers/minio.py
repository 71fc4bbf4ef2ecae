"""MinIO: media. Its repository is archived, so the version is pinned and our client speaks plain S3."""

from __future__ import annotations

from system.platform import health, packages
from system.platform.servers.base import Context, Launch, base_env

ACCESS_KEY = "tweetlab"
SECRET_KEY = "tweetlab-secret"  # the lab listens on loopback alone; this is a name, not a secret


class MinIO:
    """MinIO, compiled once into the cache."""

    package = packages.MINIO
    start_timeout_s = 30.0

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
        }
        return Launch(
            argv=(str(program), "server", "--quiet", "--certs-dir", str(ctx.config), "--address", ctx.address, str(ctx.data)),
            env=env,
            folders=(ctx.data, ctx.config),
            stop_timeout_s=5.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.http(ctx.address, "/minio/health/ready")

    def version(self) -> str:
        return packages.MINIO.version
