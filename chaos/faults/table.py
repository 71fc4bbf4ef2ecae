"""The faults a drill can inject. To add one: a class with its recovery, one row in FAULTS, one row in scenarios.vocabulary.

`aims` tells what a fault is; those that strike one process stand here, those of whole zones and regions in `areas` and `lines`.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis import asyncio as redis
from redis.exceptions import RedisError

from chaos.faults.targets import LOOK_EVERY_S, Fault, Lab, Target, owned
from chaos.faults.wan_faults import RegionCut, WanSlow
from chaos.faults.zone_faults import RegionLoss, ZoneLoss
from scenarios import vocabulary
from system.kernel.errors import CouldNotRun
from system.platform.process import procs

CANARY_TTL_S = 600  # a canary outlives every probe and then removes itself
REFILLED = 0.1  # of the keys before a loss: reads follow Zipf's law, so the popular tenth serves most of them
PROBE_TIMEOUT_S = 2.0


class Kill:
    """SIGKILL of one process of the lab; auto-heal starts it again. Instant.

    The page cache of the machine survives, so this does not test fsync. Bites: the process that was aimed at is gone.
    Undo: auto-heal of the node is switched on, which starts a dead node at once. Recovery: the node is well in
    a new process.
    """

    held = False
    kinds: tuple[str, ...] = ()
    recovers_within_s = vocabulary.FAULT_KINDS["kill"].recovers_within_s
    look_every_s = LOOK_EVERY_S

    async def aim(self, lab: Lab, target: str) -> Target:
        node = await owned(lab, target, self.kinds)
        return Target(node.name, node.pid, node.start_ticks, node.address, {"restarts": node.restarts})

    async def inject(self, lab: Lab, aim: Target) -> dict[str, Any]:
        killed = await lab.kill(aim.node)
        return {"killed_pid": killed.pid, "aimed_pid": aim.pid}

    async def bites(self, lab: Lab, aim: Target) -> bool:
        return not procs.is_alive(aim.pid, aim.start_ticks)

    async def undo(self, lab: Lab, aim: Target) -> None:
        await lab.auto_heal(aim.node, True)

    async def gone(self, lab: Lab, aim: Target) -> bool:
        node = next((row for row in await lab.status() if row.name == aim.node), None)
        fresh = node is not None and (node.pid, node.start_ticks) != (aim.pid, aim.start_ticks)
        return fresh and node is not None and node.state == "healthy" and node.health == "healthy"


class CacheLoss:
    """FLUSHALL on the cache Redis: every cached timeline, list and tweet is gone at once. Instant; nothing can undo it.

    Bites: a canary key that was written just before is gone. Recovery: the server answers and holds a tenth of
    the keys it had; the objectives `after fault` say when users are well.
    """

    held = False
    kinds: tuple[str, ...] = ("redis",)
    recovers_within_s = vocabulary.FAULT_KINDS["cache_loss"].recovers_within_s
    look_every_s = LOOK_EVERY_S

    async def aim(self, lab: Lab, target: str) -> Target:
        node = await owned(lab, target, self.kinds)
        async with _client(node.address) as client:
            server = await client.info("server")
            pid = int(server["process_id"])
            if pid not in (node.pid, *procs.descendants(node.pid)):
                raise CouldNotRun(f"The Redis at {node.address} is process {pid}, not {node.name}'s {node.pid}; it is not "
                                  "this lab's, so it is left alone.")
            keys = await client.dbsize()
        facts = {"keys_before": keys, "canary": f"chaos:canary:{uuid.uuid4().hex}"}
        return Target(node.name, node.pid, node.start_ticks, node.address, facts)

    async def inject(self, lab: Lab, aim: Target) -> dict[str, Any]:
        async with _client(aim.address) as client:
            await client.set(aim.facts["canary"], "1", ex=CANARY_TTL_S)
            before = await client.dbsize()
            await client.flushall()
            return {"keys_before": before, "keys_after": await client.dbsize()}

    async def bites(self, lab: Lab, aim: Target) -> bool:
        async with _client(aim.address) as client:
            return not await client.exists(aim.facts["canary"])

    async def undo(self, lab: Lab, aim: Target) -> None:
        """There is nothing to take back: the cache fills from the stores."""

    async def gone(self, lab: Lab, aim: Target) -> bool:
        try:
            async with _client(aim.address) as client:
                return bool(await client.dbsize() >= aim.facts["keys_before"] * REFILLED)
        except (RedisError, OSError):
            return False


@asynccontextmanager
async def _client(address: str) -> AsyncIterator[redis.Redis]:
    host, _, port = address.rpartition(":")
    client = redis.Redis(host=host, port=int(port), socket_timeout=PROBE_TIMEOUT_S, socket_connect_timeout=PROBE_TIMEOUT_S)
    try:
        yield client
    finally:
        await client.aclose()


FAULTS: dict[str, Fault] = {
    "cache_loss": CacheLoss(),
    "kill": Kill(),
    "region_cut": RegionCut(),
    "region_loss": RegionLoss(),
    "wan_slow": WanSlow(),
    "zone_loss": ZoneLoss(),
}
