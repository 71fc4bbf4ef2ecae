"""Redis, twice: the cache (timelines, follower lists, profiles), and the counters of rate limits. Both forget at a restart.

No RDB and no AOF: a restart is a cache loss, and an honest one. `noeviction`, because an evicted piece
of a timeline would look complete.
"""

from __future__ import annotations

from system.platform import health, packages
from system.platform.servers.base import Context, Launch, base_env


class Redis:
    """Debian's redis-server."""

    package = packages.REDIS
    start_timeout_s = 15.0

    def launch(self, ctx: Context) -> Launch:
        conf = ctx.config / "redis.conf"
        return Launch(
            argv=(packages.need("redis-server"), str(conf)),
            env=base_env(ctx),
            files={conf: render(ctx)},
            folders=(ctx.data,),
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        return await health.redis(ctx.address)

    def version(self) -> str:
        line = packages.version_line([packages.find("redis-server") or "redis-server", "--version"])
        found = [word[2:] for word in line.split() if word.startswith("v=")]
        return found[0] if found else ""


def render(ctx: Context) -> str:
    """Return the node's redis.conf."""
    host, port = ctx.address.split(":")
    return f"""bind {host}
port {port}
protected-mode no
class Limits(Redis):
    """The same server for the counters of rate limits."""

    def launch(self, ctx: Context) -> Launch:
        launch = super().launch(ctx)
        files = {path: f"{text}maxmemory {LIMITS_MIB}mb\n" for path, text in launch.files.items()}
        return dataclasses.replace(launch, files=files)


daemonize no
dir {ctx.data}
save ""
appendonly no
maxmemory-policy noeviction
lazyfree-lazy-user-flush yes
tcp-backlog 511
"""
