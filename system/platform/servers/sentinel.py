"""Redis Sentinel: three sentinels that monitor the cache's primary, agree that it is down, and promote its
replica.

All sentinels know each other and every Redis from the start: their ids are derived from their names, so no
discovery is needed before the first failover. Sentinel stores its state (the primary, the epoch it voted in)
in its own configuration file. That file is written at the first start under a supervisor, when every Redis is
new too, and kept when a sentinel is restarted: one that lost its vote could vote twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from system.kernel.settings import SENTINEL
from system.platform.health import Unhealthy
from system.platform.install import packages
from system.platform.servers.base import Context, Launch, base_env

GROUP = "cache"  # the sentinels' name of the primary and its replica
# A primary on two busy cores answers a PING within some 100 ms; a full sync forks and copies pages.
DOWN_AFTER_MS = 2_000
# A failover attempt without a majority is repeated after twice this.
FAILOVER_TIMEOUT_MS = 3_000
REQUEST_TIMEOUT_S = 0.3


class Sentinel:
    """Debian's redis-sentinel."""

    package = packages.SENTINEL
    start_timeout_s = 20.0

    def __init__(self) -> None:
        self._started: set[Path] = set()  # configuration files of sentinels that this supervisor has started before

    def launch(self, ctx: Context) -> Launch:
        conf = ctx.data / "sentinel.conf"
        keeps = conf in self._started and conf.exists()
        self._started.add(conf)
        return Launch(
            argv=(ctx.programs.require("redis-sentinel"), str(conf)),
            env=base_env(ctx),
            files={} if keeps else {conf: render(ctx)},
            folders=(ctx.data,),
            stop_timeout_s=3.0,
        )

    async def probe(self, ctx: Context) -> str:
        """Healthy once it knows the primary, every other Redis and the other sentinels."""
        info = _pairs(await asyncio.to_thread(command, ctx.address, "SENTINEL", "MASTER", GROUP))
        known = {"replicas": int(info["num-slaves"]), "other sentinels": int(info["num-other-sentinels"])}
        wanted = {"replicas": len(ctx.addresses("redis")) - 1, "other sentinels": len(ctx.addresses("sentinel")) - 1}
        lacking = [f"{known[what]} of {number} {what}" for what, number in wanted.items() if known[what] < number]
        if lacking:
            raise Unhealthy(f"it knows {' and '.join(lacking)}")
        return f"primary {info['ip']}:{info['port']}"

    def version(self) -> str:
        line = packages.version_line([packages.find("redis-sentinel") or "redis-sentinel", "--version"])
        return next((word[2:] for word in line.split() if word.startswith("v=")), "")


def render(ctx: Context) -> str:
    """Return the sentinel.conf of a lab whose first Redis is the primary."""
    host, port = ctx.address.split(":")
    primary, *replicas = (address.replace(":", " ") for address in ctx.addresses("redis"))
    others = [node for node in ctx.blueprint.of_kind("sentinel") if node.name != ctx.node.name]
    quorum = len(ctx.addresses("sentinel")) // 2 + 1
    known = [
        *(f"sentinel known-replica {GROUP} {address}" for address in replicas),
        *(f"sentinel known-sentinel {GROUP} {ctx.plan.of('sentinel', node.instance, node.region).replace(':', ' ')} "
          f"{_id(node.name)}" for node in others),
    ]
    return "\n".join((
        f"bind {host}",
        f"port {port}",
        "protected-mode no",
        "daemonize no",
        f"dir {ctx.data}",
        f"sentinel myid {_id(ctx.node.name)}",
        f"sentinel announce-ip {host}",
        f"sentinel announce-port {port}",
        f"sentinel monitor {GROUP} {primary} {quorum}",
        f"sentinel down-after-milliseconds {GROUP} {DOWN_AFTER_MS}",
        f"sentinel failover-timeout {GROUP} {FAILOVER_TIMEOUT_MS}",
        f"sentinel parallel-syncs {GROUP} 1",
        *known,
        "",
    ))  # fmt: skip


def _id(name: str) -> str:
    return hashlib.sha1(f"tweetlab {name}".encode()).hexdigest()


def url(sentinels: Sequence[str], servers: Sequence[str]) -> str:
    """Return the URL of the cache behind sentinels, in the format of `TWEETLAB_STORES`."""
    return f"{SENTINEL}{','.join(sentinels)}/{GROUP}?servers={','.join(servers)}"


def elected_primary(sentinels: Sequence[str]) -> str:
    """Return the address of the primary that more than half of the sentinels name; "" if there is no such
    majority.

    Blocks for up to `REQUEST_TIMEOUT_S`.
    """
    def vote(address: str) -> str:
        with contextlib.suppress(Unhealthy, TypeError):
            host, port = command(address, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP)
            return f"{host}:{port}"
        return ""

    with ThreadPoolExecutor(max(1, len(sentinels))) as pool:
        votes = Counter(filter(None, pool.map(vote, sentinels)))
    best, count = max(votes.items(), key=lambda row: row[1], default=("", 0))
    return best if count > len(sentinels) / 2 else ""


def command(address: str, *words: str) -> Any:
    """Send one command to a Redis or a sentinel and return its reply: str, int, None or a list of these.

    Blocks.

    Raises Unhealthy, with the reason if there is no reply, and with the server's text if the reply is an
    error.
    """
    import hiredis  # needed only with sentinels

    host, _, port = address.rpartition(":")
    reader = hiredis.Reader(encoding="utf-8")
    try:
        with socket.create_connection((host, int(port)), REQUEST_TIMEOUT_S) as link:
            link.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]  # annotated as a tuple of one
            while (answer := reader.gets()) is False:
                data = link.recv(65_536)
                if not data:
                    raise Unhealthy(f"{address} closed the connection")
                reader.feed(data)
    except TimeoutError:
        raise Unhealthy(f"no answer on {address} within {REQUEST_TIMEOUT_S:g} s") from None
    except OSError as problem:
        raise Unhealthy(f"{problem.strerror or problem} on {address}") from None
    except hiredis.ProtocolError:
        raise Unhealthy(f"the server on {address} is no Redis") from None
    if isinstance(answer, hiredis.ReplyError):
        raise Unhealthy(f"{address}: {answer}")
    return answer


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2]))
