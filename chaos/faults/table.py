"""The faults that a scenario can inject.

To add one: write a class, add a row to FAULTS and a row to `scenarios.vocabulary.FAULT_KINDS`.

`chaos.faults.targets` defines the interface. Faults of a single process are here; those of zones and regions
are in `zone_faults` and `wan_faults`.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis import asyncio as redis
from redis.exceptions import RedisError

from chaos.faults.targets import PROBE_EVERY_S, Fault, Lab, Target, owned
from chaos.faults.wan_faults import RegionCut, WanSlow
from chaos.faults.zone_faults import RegionLoss, ZoneLoss
from scenarios import vocabulary
from system.kernel.errors import CouldNotRun, WrongInput
from system.platform.process import procs
from system.platform.provider import NodeStatus

CANARY_TTL_S = 600  # longer than any probe runs
# Share of the former number of keys that counts as recovered: reads follow Zipf's law, so the most popular
# tenth of the keys serves most of them.
REFILLED = 0.1
PROBE_TIMEOUT_S = 2.0


class Kill:
    """Kills one process of the lab with SIGKILL; auto-heal restarts it. Instant.

    The page cache of the machine survives, so this does not test fsync.

    - Effect: the targeted process no longer exists.
    - Undo: auto-heal of the node is switched on, which immediately starts a dead node.
    - Recovery: the node is healthy in a new process.
    """

    held = False
    kinds: tuple[str, ...] = ()
    recovers_within_s = vocabulary.FAULT_KINDS["kill"].recovers_within_s
    probe_every_s = PROBE_EVERY_S

    async def choose_target(self, lab: Lab, name: str) -> Target:
        node = await owned(lab, name, self.kinds)
        return Target(node.name, node.pid, node.start_ticks, node.address, {"restarts": node.restarts})

    async def inject(self, lab: Lab, target: Target) -> dict[str, Any]:
        killed = await lab.kill(target.node)
        return {"killed_pid": killed.pid, "aimed_pid": target.pid}

    async def has_taken_effect(self, lab: Lab, target: Target) -> bool:
        return not procs.is_alive(target.pid, target.start_ticks)

    async def undo(self, lab: Lab, target: Target) -> None:
        await lab.auto_heal(target.node, True)

    async def has_recovered(self, lab: Lab, target: Target) -> bool:
        node = await _row(lab, target.node)
        fresh = node is not None and not _is_same(node, target)
        return fresh and node is not None and node.state == "healthy" and node.health == "healthy"


class Pause:
    """Freezes every process of one node while the fault is held: SIGSTOP, in a container `docker pause`.

    Connections stay open, requests queue in the kernel, memory is kept, and no peer gets an error: what a
    long stop of a garbage collector, a stalled disk or a suspended virtual machine looks like. Healing does not
    know of it: it may find the instance hung, and replace it before the fault ends.

    - Effect: the kernel reports all processes of the node as frozen, and its health probe gets no answer.
    - Undo: the node continues. If it was replaced or removed in the meantime, there is nothing to undo.
    - Recovery: the node is healthy, in the same process or in a new one.
    """

    held = True
    kinds: tuple[str, ...] = ()
    recovers_within_s = vocabulary.FAULT_KINDS["pause"].recovers_within_s
    probe_every_s = PROBE_EVERY_S

    async def choose_target(self, lab: Lab, name: str) -> Target:
        node = await owned(lab, name, self.kinds)
        if node.paused:
            raise CouldNotRun(f"{node.name} is paused already, so the drill would prove nothing.")
        return Target(node.name, node.pid, node.start_ticks, node.address)

    async def inject(self, lab: Lab, target: Target) -> dict[str, Any]:
        await lab.pause(target.node)
        return {"paused_pid": target.pid}

    async def has_taken_effect(self, lab: Lab, target: Target) -> bool:
        node = await _row(lab, target.node)
        return node is not None and node.paused and node.health != "healthy" and _is_same(node, target)

    async def undo(self, lab: Lab, target: Target) -> None:
        with contextlib.suppress(WrongInput):  # the autoscaler removed it, or another lab runs by now
            await lab.resume(target.node)

    async def has_recovered(self, lab: Lab, target: Target) -> bool:
        node = await _row(lab, target.node)
        return node is not None and not node.paused and node.state == "healthy" and node.health == "healthy"


class CacheLoss:
    """Empties the cache Redis with FLUSHALL: every cached timeline, list and tweet is lost. Instant.

    It cannot be undone; the cache refills from the stores as users read.

    - Effect: a canary key that was written just before the flush no longer exists.
    - Recovery: the server answers and holds a tenth of the keys that it held before. Whether users still
      notice the fault is judged by the `after fault` objectives.
    """

    held = False
    kinds: tuple[str, ...] = ("redis",)
    recovers_within_s = vocabulary.FAULT_KINDS["cache_loss"].recovers_within_s
    probe_every_s = PROBE_EVERY_S

    async def choose_target(self, lab: Lab, name: str) -> Target:
        node = await owned(lab, name, self.kinds)
        async with _client(node.address) as client:
            server = await client.info("server")
            pid = int(server["process_id"])
            if pid not in {procs.own_pid(each) for each in (node.pid, *procs.descendants(node.pid))}:
                raise CouldNotRun(f"The Redis at {node.address} is process {pid}, not {node.name}'s {node.pid}; it is not "
                                  "this lab's, so it is not flushed.")
            keys = await client.dbsize()
        facts = {"keys_before": keys, "canary": f"chaos:canary:{uuid.uuid4().hex}"}
        return Target(node.name, node.pid, node.start_ticks, node.address, facts)

    async def inject(self, lab: Lab, target: Target) -> dict[str, Any]:
        async with _client(target.address) as client:
            await client.set(target.facts["canary"], "1", ex=CANARY_TTL_S)
            before = await client.dbsize()
            await client.flushall()
            return {"keys_before": before, "keys_after": await client.dbsize()}

    async def has_taken_effect(self, lab: Lab, target: Target) -> bool:
        async with _client(target.address) as client:
            return not await client.exists(target.facts["canary"])

    async def undo(self, lab: Lab, target: Target) -> None:
        """Do nothing: the cache refills from the stores."""

    async def has_recovered(self, lab: Lab, target: Target) -> bool:
        try:
            async with _client(target.address) as client:
                return bool(await client.dbsize() >= target.facts["keys_before"] * REFILLED)
        except (RedisError, OSError):
            return False


async def _row(lab: Lab, name: str) -> NodeStatus | None:
    return next((row for row in await lab.status() if row.name == name), None)


def _is_same(node: NodeStatus, target: Target) -> bool:
    return (node.pid, node.start_ticks) == (target.pid, target.start_ticks)


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
    "pause": Pause(),
    "region_cut": RegionCut(),
    "region_loss": RegionLoss(),
    "wan_slow": WanSlow(),
    "zone_loss": ZoneLoss(),
}
