"""Whole areas as targets: a zone, which fails together, or a region, which is a zone with a network of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chaos.faults.targets import Lab, Target
from scenarios import vocabulary
from system.kernel import wan
from system.kernel.errors import CouldNotRun, LabError, WrongInput
from system.observe import copies
from system.platform.blueprint import Blueprint, Node
from system.platform.process import procs
from system.platform.provider import NodeStatus

LOOK_EVERY_S = 2.0         # a question here asks fifty nodes


@dataclass(frozen=True)
class Area:
    """A way to part a lab. `word`: what a part is called; `blueprint`: one that has parts; `name`: a node's, "" for none."""

    word: str
    blueprint: str
    name: Callable[[Node], str]

    def named(self, blueprint: Blueprint) -> dict[str, tuple[Node, ...]]:
        """Return the areas of a blueprint with their nodes. Raises WrongInput where it has none."""
        names = sorted({self.name(node) for node in blueprint.nodes} - {""})
        if not names:
            raise WrongInput(f"The fault strikes a {self.word}, but the lab that is up, {blueprint.name!r}, has none; take it "
                             f"down and bring one up that has: `tweetlab down`, then `tweetlab up {self.blueprint}`.")
        return {name: tuple(node for node in blueprint.nodes if self.name(node) == name) for name in names}

    async def aim(self, lab: Lab, target: str) -> Target:
        """Return an aim at a whole area; its facts are `nodes` and the `primaries` among them.

        The target `zone` or `region` is the one where the cache's primary stands now. Raises WrongInput for an unknown area,
        CouldNotRun where a node of it is not well.
        """
        areas = self.named(await lab.blueprint())
        rows = {row.name: row for row in await lab.status()}
        primaries = await copies.primaries(list(rows.values()))
        of_node = {node.name: name for name, nodes in areas.items() for node in nodes}
        target = next((of_node[name] for name in primaries if target == self.word and name in of_node), target)
        if target not in areas:
            raise WrongInput(f"The fault's target is {target!r}; {self.word}s of this lab: {', '.join(areas)}.")
        struck = [rows[node.name] for node in areas[target] if node.name in rows]
        sick = [f"{row.name} ({row.state}: {row.health})" for row in struck if not _is_well(row)]
        if sick:
            raise CouldNotRun(f"{target} is not whole before it is lost, so the drill would prove nothing: {', '.join(sick)}.")
        nodes = [{"name": row.name, "pid": row.pid, "start_ticks": row.start_ticks} for row in struck]
        facts = {"nodes": nodes, "primaries": [row.name for row in struck if row.name in primaries]}
        return Target(target, struck[0].pid, struck[0].start_ticks, struck[0].address, facts)


def _region(node: Node) -> str:
    return wan.NAMES[node.region] if node.region not in (0, wan.OUTSIDE) else ""


ZONE = Area("zone", "cluster", lambda node: f"zone-{node.zone}" if node.zone else "")
REGION = Area("region", "two_regions", _region)


class _AreaLoss:
    """The death of an area; `area` says of which kind."""

    area: Area
    held = True
    recovers_within_s = vocabulary.AREA_RECOVERS_WITHIN_S
    look_every_s = LOOK_EVERY_S

    async def aim(self, lab: Lab, target: str) -> Target:
        return await self.area.aim(lab, target)

    async def inject(self, lab: Lab, aim: Target) -> dict[str, Any]:
        names = names_of(aim)
        await leave_alone(lab, aim)
        told = await asyncio.gather(*(lab.kill(name) for name in names), return_exceptions=True)
        for problem in told:
            if isinstance(problem, BaseException) and not isinstance(problem, CouldNotRun):  # that one was dead already
                raise problem
        killed = sum(not isinstance(each, BaseException) for each in told)
        return {"killed": killed, "nodes": len(names), "primaries": aim.facts["primaries"]}

    async def bites(self, lab: Lab, aim: Target) -> bool:
        return not any(procs.is_alive(node["pid"], node["start_ticks"]) for node in aim.facts["nodes"])

    async def undo(self, lab: Lab, aim: Target) -> None:
        await heal(lab, aim)

    async def gone(self, lab: Lab, aim: Target) -> bool:
        rows = {row.name: row for row in await lab.status()}
        for node in aim.facts["nodes"]:
            row = rows.get(node["name"])
            if row is None or not _is_well(row):
                return False
            if (row.pid, row.start_ticks) == (node["pid"], node["start_ticks"]):
                return False
        return not await copies.missing(list(rows.values()))


class ZoneLoss(_AreaLoss):
    """SIGKILL of every process of a zone, which stays dead for as long as the fault is held.

    Auto-heal of all its nodes is switched off before the first of them dies, so that none comes back half-way. Bites: none of the
    processes that were aimed at lives. Undo: auto-heal is switched on, which starts every dead node at once. Recovery: all nodes
    of the zone are well in new processes, and the stores have as many copies of their data as before (`copies`).
    The target `zone` is the one where the cache's primary stands now: the loss that costs most.
    """

    area = ZONE
    kinds: tuple[str, ...] = (ZONE.word,)


class RegionLoss(_AreaLoss):
    """SIGKILL of every process of a region, which stays dead for as long as the fault is held; its lines stay.

    As `zone_loss`, of `east`, `west` or `witness`; the target `region` is the active one, where the cache's primary stands now.
    """

    area = REGION
    kinds: tuple[str, ...] = (REGION.word,)


def names_of(aim: Target) -> list[str]:
    """Return the nodes of an area that was aimed at."""
    return [node["name"] for node in aim.facts["nodes"]]


def all_healthy(aim: Target, rows: list[NodeStatus]) -> bool:
    """Say whether every node that was aimed at is well now, in whatever process."""
    well = {row.name for row in rows if _is_well(row)}
    return well >= set(names_of(aim))


async def leave_alone(lab: Lab, aim: Target) -> None:
    """Let nothing heal or replace a node of the area until `heal`."""
    await asyncio.gather(*(lab.auto_heal(name, False) for name in names_of(aim)))


async def heal(lab: Lab, aim: Target) -> None:
    """Let every node of the area be healed again; another lab may stand here since the runner died."""
    known = {row.name for row in await lab.status()}
    problems = []
    for name in names_of(aim):
        if name in known:
            try:
                await lab.auto_heal(name, True)
            except LabError as problem:
                problems.append(problem)
    if problems:
        raise problems[0]


def _is_well(row: NodeStatus) -> bool:
    return row.state == "healthy" and row.health == "healthy"
