"""Redis, twice: the cache (timelines, follower lists, profiles), and the counters of rate limits. Both forget at a restart.

No RDB and no AOF: a restart is a cache loss, and an honest one. `noeviction`, because an evicted piece
of a timeline would look complete, and an evicted counter would let its caller in again. The counters have a server of
their own, so that a cache that is full, busy or lost takes no limit with it, and the other way round.
"""

from __future__ import annotations

import dataclasses

from system.platform import health, packages
from system.platform.servers.base import Context, Launch, base_env

LIMITS_MIB = 64  # a counter takes about 250 bytes: 250,000 of them; a full server refuses, and gateways admit their local share


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


class Limits(Redis):
    """The same server for the counters of rate limits."""

    def launch(self, ctx: Context) -> Launch:
        launch = super().launch(ctx)
        files = {path: f"{text}maxmemory {LIMITS_MIB}mb\n" for path, text in launch.files.items()}
        return dataclasses.replace(launch, files=files)


def render(ctx: Context) -> str:
    """Return the node's redis.conf."""
    host, port = ctx.address.split(":")
    return f"""bind {host}
port {port}
protected-mode no
daemonize no
dir {ctx.data}
save ""
appendonly no
maxmemory-policy noeviction
lazyfree-lazy-user-flush yes
tcp-backlog 511
"""
