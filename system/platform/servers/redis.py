"""Redis, twice: the cache (timelines, follower lists, profiles), and the counters of rate limits.

Both lose data on restart.

No RDB and no AOF: a restart is a visible, complete cache loss. `noeviction`, because a timeline with an
evicted part would look complete, and an evicted counter would reset its caller's limit. The counters have a
server of their own, so that a cache that is full, busy or lost affects no limit, and vice versa.

In a blueprint with sentinels the cache is a primary and its replicas (`following`): the blueprint's first
Redis starts as primary, and afterwards the sentinels decide. An empty server never starts as primary of a
replica that holds data: the replica would sync with it and lose everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

from system.kernel.errors import CouldNotRun
from system.platform import health
from system.platform.install import packages
from system.platform.servers import sentinel
from system.platform.servers.base import Context, Launch, base_env

LIMITS_MIB = 64  # room for 250,000 counters of about 250 bytes; a full server refuses, and gateways apply their local share


class Redis:
    """Debian's redis-server."""

    package = packages.REDIS
    start_timeout_s = 15.0

    def launch(self, ctx: Context) -> Launch:
        conf = ctx.config / "redis.conf"
        replicated = is_replicated(ctx)
        return Launch(
            argv=(ctx.programs.require("redis-server"), str(conf)),
            env=base_env(ctx),
            files={conf: render(ctx) + (following(ctx, primary_of(ctx)) if replicated else "")},
            folders=(ctx.data,),
            stale=(ctx.data / "dump.rdb",) if replicated else (),  # left by a sync; it would be loaded
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        if not is_replicated(ctx):
            return await health.redis(ctx.address)
        role, *details = await asyncio.to_thread(sentinel.command, ctx.address, "ROLE")
        if role == "master":
            return f"primary of {len(details[1])}"
        if details[2] != "connected":
            raise health.Unhealthy(f"replica of {details[0]}:{details[1]}, which it does not follow yet ({details[2]})")
        return f"replica of {details[0]}:{details[1]}"

    def version(self) -> str:
        line = packages.version_line([packages.find("redis-server") or "redis-server", "--version"])
        return next((word[2:] for word in line.split() if word.startswith("v=")), "")


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


def is_replicated(ctx: Context) -> bool:
    """Return whether this node is part of a cache under sentinels."""
    return ctx.node.kind == "redis" and bool(ctx.blueprint.of_kind("sentinel"))


def following(ctx: Context, primary: str) -> str:
    """Return the further lines of redis.conf under sentinels.

    `primary`: the server to replicate; its own address: none.
    """
    host, port = ctx.address.split(":")
    # The backlog never expires: a primary that frees it changes its replication id, which is the epoch of
    # timeline marks.
    text = f"""replica-announce-ip {host}
replica-announce-port {port}
repl-diskless-sync yes
repl-diskless-sync-delay 0
rdb-del-sync-files yes
repl-backlog-size 16mb
repl-backlog-ttl 0
"""
    return text if primary == ctx.address else f"{text}replicaof {primary.replace(':', ' ')}\n"


def primary_of(ctx: Context) -> str:
    """Return the address of the cache's current primary; this node's own if it should be primary.

    A majority of the sentinels decides, else a Redis that is primary already, else the blueprint's first.
    Raises CouldNotRun if this empty node would become the primary of a replica that holds data: its promotion
    is in progress.
    """
    others = [address for address in ctx.addresses("redis") if address != ctx.address]
    primaries = [address for address in others if _query(address, "ROLE")[:1] == ["master"]]
    primary = (sentinel.elected_primary(ctx.addresses("sentinel")) or next(iter(primaries), "")) or ctx.addresses("redis")[0]
    holder = next((address for address in others if address not in primaries and _query(address, "DBSIZE") not in ([], [0])), "")
    if primary == ctx.address and holder:
        raise CouldNotRun(f"{ctx.node.name} is empty, and the replica at {holder} holds data that it would wipe: "
                          "it starts once the sentinels have promoted that replica.")
    return primary


def _query(address: str, command: str) -> list[object]:
    """Return the reply of a Redis as a list; empty if there is none."""
    with contextlib.suppress(health.Unhealthy):
        reply = sentinel.command(address, command)
        return reply if isinstance(reply, list) else [reply]
    return []
