"""Redis, twice: the cache (timelines, follower lists, profiles), and the counters of rate limits. Both forget at a restart.

No RDB and no AOF: a restart is a cache loss, and an honest one. `noeviction`, because an evicted piece
of a timeline would look complete, and an evicted counter would let its caller in again. The counters have a server of
their own, so that a cache that is full, busy or lost takes no limit with it, and the other way round.

In a blueprint with sentinels the cache is a primary and its replicas (`following`): the blueprint's first Redis begins as
primary, and afterwards the sentinels say who is. An empty server never starts as primary over a replica that holds something:
the replica would copy the emptiness.
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

LIMITS_MIB = 64  # a counter takes about 250 bytes: 250,000 of them; a full server refuses, and gateways admit their local share


class Redis:
    """Debian's redis-server."""

    package = packages.REDIS
    start_timeout_s = 15.0

    def launch(self, ctx: Context) -> Launch:
        conf = ctx.config / "redis.conf"
        replicated = is_replicated(ctx)
        return Launch(
            argv=(packages.need("redis-server"), str(conf)),
            env=base_env(ctx),
            files={conf: render(ctx) + (following(ctx, primary_of(ctx)) if replicated else "")},
            folders=(ctx.data,),
            stale=(ctx.data / "dump.rdb",) if replicated else (),  # what a synchronisation may leave; it would be loaded
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        if not is_replicated(ctx):
            return await health.redis(ctx.address)
        role, *facts = await asyncio.to_thread(sentinel.asked, ctx.address, "ROLE")
        if role == "master":
            return f"primary of {len(facts[1])}"
        if facts[2] != "connected":
            raise health.Unhealthy(f"replica of {facts[0]}:{facts[1]}, which it does not follow yet ({facts[2]})")
        return f"replica of {facts[0]}:{facts[1]}"

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


def is_replicated(ctx: Context) -> bool:
    """Say whether this node is one of a cache under sentinels."""
    return ctx.node.kind == "redis" and bool(ctx.blueprint.of_kind("sentinel"))


def following(ctx: Context, primary: str) -> str:
    """Return what redis.conf says besides in a cache under sentinels. `primary`: whom to follow; its own address: nobody."""
    host, port = ctx.address.split(":")
    # The backlog is kept for ever: when it is given up, a primary changes its replication id, which is the epoch of marks.
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
    """Return the address of the cache's primary of now; this node's own, where it is to be the one.

    More than half of the sentinels decide, else a Redis that is primary already, else the blueprint's first. Raises CouldNotRun
    where this empty node would become the primary of a replica that holds something: its promotion is under way.
    """
    others = [address for address in ctx.addresses("redis") if address != ctx.address]
    primaries = [address for address in others if _told(address, "ROLE")[:1] == ["master"]]
    primary = (sentinel.named(ctx.addresses("sentinel")) or next(iter(primaries), "")) or ctx.addresses("redis")[0]
    holder = next((address for address in others if address not in primaries and _told(address, "DBSIZE") not in ([], [0])), "")
    if primary == ctx.address and holder:
        raise CouldNotRun(f"{ctx.node.name} is empty, and the replica at {holder} holds what it would wipe: it starts once the "
                          "sentinels have promoted that one.")
    return primary


def _told(address: str, command: str) -> list[object]:
    """Return the answer of a Redis as a list; empty where there is none."""
    with contextlib.suppress(health.Unhealthy):
        answer = sentinel.asked(address, command)
        return answer if isinstance(answer, list) else [answer]
    return []
