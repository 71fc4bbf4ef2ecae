"""The faults a drill can inject. To add one: a class with its recovery, one row in FAULTS, one row in scenarios.vocabulary.

A fault aims (finds its target among what this lab owns), injects, proves by a probe that it bites, is undone, and
proves by a second probe that it is gone. It strikes only a process that the lab's supervisor owns, known by
pid and start time, or a server that answers at that process' address.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from redis import asyncio as redis
from redis.exceptions import RedisError

from system.kernel.errors import CouldNotRun, LabError, WrongInput
from system.observe import copies
from system.platform import procs
from system.platform.blueprint import Blueprint, Node
from system.platform.places import Places
from system.platform.provider import Killed, NodeStatus
from system.platform.servers import sentinel

CANARY_TTL_S = 600  # a canary outlives every probe and then removes itself
REFILLED = 0.1  # of the keys before a loss: reads follow Zipf's law, so the popular tenth serves most of them
PROBE_TIMEOUT_S = 2.0
LOOK_EVERY_S = 0.05  # resolution of recovery times; to ask the status of twenty nodes costs the supervisor about 1 ms
ZONE = "zone"


class Lab(Protocol):
    """What a fault needs of a platform."""

    places: Places

    async def blueprint(self) -> Blueprint: ...
    async def status(self) -> list[NodeStatus]: ...
    async def kill(self, node: str) -> Killed: ...
    async def auto_heal(self, node: str, on: bool) -> None: ...


@dataclass(frozen=True)
class Aim:
    """A target, as it was when it was aimed at. `pid` and `start_ticks` name the very process; `facts`: plain JSON values."""

    node: str
    pid: int
    start_ticks: int
    address: str
    facts: dict[str, Any] = field(default_factory=dict)


class Fault(Protocol):
    """One way to break the system. `held`: lasts until it is undone. `kinds`: kinds of node it strikes, empty for any.

    `recovers_within_s`: how long its recovery probe is asked, `look_every_s`: the pause between two questions.
    """

    held: bool
    kinds: tuple[str, ...]
    recovers_within_s: float
    look_every_s: float

    async def aim(self, lab: Lab, target: str) -> Aim:
        """Return the target; changes nothing. Raises WrongInput or CouldNotRun where the lab does not own such a one."""
        ...

    async def inject(self, lab: Lab, aim: Aim) -> dict[str, Any]:
        """Break it; return what the record should keep."""
        ...

    async def bites(self, lab: Lab, aim: Aim) -> bool:
        """Effect probe: say whether the fault is seen to work."""
        ...

    async def undo(self, lab: Lab, aim: Aim) -> None:
        """Take the fault back. Safe to repeat, and safe where it was never injected."""
        ...

    async def gone(self, lab: Lab, aim: Aim) -> bool:
        """Recovery probe: say whether the target is as good as before."""
        ...


async def owned(lab: Lab, target: str, kinds: tuple[str, ...]) -> NodeStatus:
    """Return the node named `target`, or the first of that kind, if its process is alive and the lab's own.

    The first Redis of a cache under sentinels is its primary of now.
    """
    rows = await lab.status()
    node = next((row for row in rows if row.name == target), None) or await _first(rows, target)
    if node is None:
        names = ", ".join(sorted(row.name for row in rows)) or "none: it is down"
        raise WrongInput(f"The fault's target is {target!r}; nodes of this lab: {names}.")
    if kinds and node.kind not in kinds:
        raise WrongInput(f"The fault's target {node.name} is of kind {node.kind}; this fault strikes {', '.join(kinds)}.")
    if not procs.is_alive(node.pid, node.start_ticks):
        raise CouldNotRun(f"{node.name} has no living process of this lab (state {node.state!r}); nothing to strike.")
    return node


async def _first(rows: list[NodeStatus], kind: str) -> NodeStatus | None:
    same = [row for row in rows if row.kind == kind]
    if kind != "redis" or len(same) < 2:
        return same[0] if same else None
    primary = await asyncio.to_thread(sentinel.named, [row.address for row in rows if row.kind == "sentinel"])
    if not primary:
        raise CouldNotRun("No majority of the sentinels names a primary of the cache now; see `tweetlab status`.")
    return next((row for row in same if row.address == primary), None)


class Kill:
    """SIGKILL of one process of the lab; auto-heal starts it again. Instant.

    The page cache of the machine survives, so this does not test fsync. Bites: the process that was aimed at is gone.
    Undo: auto-heal of the node is switched on, which starts a dead node at once. Recovery: the node is well in
    a new process.
    """

    held = False
    kinds: tuple[str, ...] = ()
    recovers_within_s = 90.0  # Cassandra takes about 20 s to come back on two shared cores; the rest is room
    look_every_s = LOOK_EVERY_S

    async def aim(self, lab: Lab, target: str) -> Aim:
        node = await owned(lab, target, self.kinds)
        return Aim(node.name, node.pid, node.start_ticks, node.address, {"restarts": node.restarts})

    async def inject(self, lab: Lab, aim: Aim) -> dict[str, Any]:
        killed = await lab.kill(aim.node)
        return {"killed_pid": killed.pid, "aimed_pid": aim.pid}

    async def bites(self, lab: Lab, aim: Aim) -> bool:
        return not procs.is_alive(aim.pid, aim.start_ticks)

    async def undo(self, lab: Lab, aim: Aim) -> None:
        await lab.auto_heal(aim.node, True)

    async def gone(self, lab: Lab, aim: Aim) -> bool:
        node = next((row for row in await lab.status() if row.name == aim.node), None)
        fresh = node is not None and (node.pid, node.start_ticks) != (aim.pid, aim.start_ticks)
        return fresh and node is not None and node.state == "well" and node.health == "well"


class CacheLoss:
    """FLUSHALL on the cache Redis: every cached timeline, list and tweet is gone at once. Instant; nothing can undo it.

    Bites: a canary key that was written just before is gone. Recovery: the server answers and holds a tenth of
    the keys it had; the objectives `after fault` say when users are well.
    """

    held = False
    kinds: tuple[str, ...] = ("redis",)
    recovers_within_s = 60.0
    look_every_s = LOOK_EVERY_S

    async def aim(self, lab: Lab, target: str) -> Aim:
        node = await owned(lab, target, self.kinds)
        async with _client(node.address) as client:
            server = await client.info("server")
            pid = int(server["process_id"])
            if pid not in (node.pid, *procs.descendants(node.pid)):
                raise CouldNotRun(f"The Redis at {node.address} is process {pid}, not {node.name}'s {node.pid}; it is not "
                                  "this lab's, so it is left alone.")
            keys = await client.dbsize()
        facts = {"keys_before": keys, "canary": f"chaos:canary:{uuid.uuid4().hex}"}
        return Aim(node.name, node.pid, node.start_ticks, node.address, facts)

    async def inject(self, lab: Lab, aim: Aim) -> dict[str, Any]:
        async with _client(aim.address) as client:
            await client.set(aim.facts["canary"], "1", ex=CANARY_TTL_S)
            before = await client.dbsize()
            await client.flushall()
            return {"keys_before": before, "keys_after": await client.dbsize()}

    async def bites(self, lab: Lab, aim: Aim) -> bool:
        async with _client(aim.address) as client:
            return not await client.exists(aim.facts["canary"])

    async def undo(self, lab: Lab, aim: Aim) -> None:
        """There is nothing to take back: the cache fills from the stores."""

    async def gone(self, lab: Lab, aim: Aim) -> bool:
        try:
            async with _client(aim.address) as client:
                return bool(await client.dbsize() >= aim.facts["keys_before"] * REFILLED)
        except (RedisError, OSError):
            return False


class ZoneLoss:
    """SIGKILL of every process of a zone, which stays dead for as long as the fault is held.

    Auto-heal of all its nodes is switched off before the first of them dies, so that none comes back half-way. Bites: none of the
    processes that were aimed at lives. Undo: auto-heal is switched on, which starts every dead node at once. Recovery: all nodes
    of the zone are well in new processes, and the stores have as many copies of their data as before (`copies`).
    The target `zone` is the one where the cache's primary stands now: the loss that costs most.
    """

    held = True
    kinds: tuple[str, ...] = (ZONE,)
    recovers_within_s = 150.0  # three JVMs, PostgreSQL and a zone of services on two cores that carry load meanwhile
    look_every_s = 2.0         # a question here asks fifty nodes

    async def aim(self, lab: Lab, target: str) -> Aim:
        blueprint = await lab.blueprint()
        rows = {row.name: row for row in await lab.status()}
        primaries = await copies.primaries(list(rows.values()))
        target = next((f"{ZONE}-{rows[name].zone}" for name in primaries if target == ZONE), target)
        struck = [rows[node.name] for node in _zone(blueprint, target) if node.name in rows]
        sick = [f"{row.name} ({row.state}: {row.health})" for row in struck if row.state != "well" or row.health != "well"]
        if sick:
            raise CouldNotRun(f"{target} is not whole before it is lost, so the drill would prove nothing: {', '.join(sick)}.")
        nodes = [{"name": row.name, "pid": row.pid, "start_ticks": row.start_ticks} for row in struck]
        facts = {"nodes": nodes, "primaries": [row.name for row in struck if row.name in primaries]}
        return Aim(target, struck[0].pid, struck[0].start_ticks, struck[0].address, facts)

    async def inject(self, lab: Lab, aim: Aim) -> dict[str, Any]:
        names = _names(aim)
        await asyncio.gather(*(lab.auto_heal(name, False) for name in names))
        told = await asyncio.gather(*(lab.kill(name) for name in names), return_exceptions=True)
        for problem in told:
            if isinstance(problem, BaseException) and not isinstance(problem, CouldNotRun):  # that one was dead already
                raise problem
        killed = sum(not isinstance(each, BaseException) for each in told)
        return {"killed": killed, "nodes": len(names), "primaries": aim.facts["primaries"]}

    async def bites(self, lab: Lab, aim: Aim) -> bool:
        return not any(procs.is_alive(node["pid"], node["start_ticks"]) for node in aim.facts["nodes"])

    async def undo(self, lab: Lab, aim: Aim) -> None:
        known = {row.name for row in await lab.status()}
        problems = []
        for name in _names(aim):
            if name in known:  # another lab may stand here since the runner died
                try:
                    await lab.auto_heal(name, True)
                except LabError as problem:
                    problems.append(problem)
        if problems:
            raise problems[0]

    async def gone(self, lab: Lab, aim: Aim) -> bool:
        rows = {row.name: row for row in await lab.status()}
        for node in aim.facts["nodes"]:
            row = rows.get(node["name"])
            if row is None or row.state != "well" or row.health != "well":
                return False
            if (row.pid, row.start_ticks) == (node["pid"], node["start_ticks"]):
                return False
        return not await copies.missing(list(rows.values()))


def _zone(blueprint: Blueprint, target: str) -> tuple[Node, ...]:
    """Return the nodes of the zone named `target`. Raises WrongInput where the blueprint has no such zone."""
    zones = {f"{ZONE}-{node.zone}": blueprint.in_zone(node.zone) for node in blueprint.nodes if node.zone}
    if not zones:
        raise WrongInput(f"The fault zone_loss strikes a zone, but the lab that is up, {blueprint.name!r}, has none; "
                         "take it down and bring one up that has: `tweetlab down`, then `tweetlab up cluster`.")
    if target not in zones:
        raise WrongInput(f"The fault's target is {target!r}; zones of this lab: {', '.join(sorted(zones))}.")
    return zones[target]


def _names(aim: Aim) -> list[str]:
    return [node["name"] for node in aim.facts["nodes"]]


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
    "zone_loss": ZoneLoss(),
}
