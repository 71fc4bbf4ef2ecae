"""Faults of whole failure domains: zones, and regions (zones with a network of their own)."""

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

PROBE_EVERY_S = 2.0  # a recovery probe queries fifty nodes


@dataclass(frozen=True)
class FailureDomain:
    """A kind of failure domain of a lab.

    `word`: `zone` or `region`. `blueprint`: a blueprint that has such domains. `name`: function that returns
    the domain of a node, "" for none.
    """

    word: str
    blueprint: str
    name: Callable[[Node], str]

    def named(self, blueprint: Blueprint) -> dict[str, tuple[Node, ...]]:
        """Return the nodes of each domain of a blueprint, by name. Raises WrongInput where it has none."""
        names = sorted({self.name(node) for node in blueprint.nodes} - {""})
        if not names:
            raise WrongInput(f"The fault's target is a {self.word}, but the running lab, {blueprint.name!r}, has none; take it "
                             f"down and start one that has: `tweetlab down`, then `tweetlab up {self.blueprint}`.")
        return {name: tuple(node for node in blueprint.nodes if self.name(node) == name) for name in names}

    async def choose_target(self, lab: Lab, name: str) -> Target:
        """Return a whole domain as target; its facts are `nodes` and the names of the `primaries` among them.

        `name`: a domain, or `zone` or `region` for the one where the cache's primary currently runs. Raises
        WrongInput for an unknown domain, CouldNotRun where one of its nodes is unhealthy.
        """
        domains = self.named(await lab.blueprint())
        rows = {row.name: row for row in await lab.status()}
        primaries = await copies.primaries(list(rows.values()))
        domain_of = {node.name: domain for domain, nodes in domains.items() for node in nodes}
        if name == self.word:
            name = next((domain_of[primary] for primary in primaries if primary in domain_of), name)
        if name not in domains:
            raise WrongInput(f"The fault's target is {name!r}; {self.word}s of this lab: {', '.join(domains)}.")
        members = [rows[node.name] for node in domains[name] if node.name in rows]
        unhealthy = [f"{row.name} ({row.state}: {row.health})" for row in members if not _is_healthy(row)]
        if unhealthy:
            raise CouldNotRun(f"{name} is unhealthy before the fault, so the drill would prove nothing: {', '.join(unhealthy)}.")
        nodes = [{"name": row.name, "pid": row.pid, "start_ticks": row.start_ticks} for row in members]
        facts = {"nodes": nodes, "primaries": [row.name for row in members if row.name in primaries]}
        return Target(name, members[0].pid, members[0].start_ticks, members[0].address, facts)


def _region(node: Node) -> str:
    return wan.NAMES[node.region] if node.region not in (0, wan.OUTSIDE) else ""


ZONE = FailureDomain("zone", "cluster", lambda node: f"zone-{node.zone}" if node.zone else "")
REGION = FailureDomain("region", "two_regions", _region)


class _DomainLoss:
    """SIGKILL of every process of a failure domain of the kind `domain`."""

    domain: FailureDomain
    held = True
    recovers_within_s = vocabulary.DOMAIN_RECOVERS_WITHIN_S
    probe_every_s = PROBE_EVERY_S

    async def choose_target(self, lab: Lab, name: str) -> Target:
        return await self.domain.choose_target(lab, name)

    async def inject(self, lab: Lab, target: Target) -> dict[str, Any]:
        names = node_names(target)
        await disable_auto_heal(lab, target)
        results = await asyncio.gather(*(lab.kill(name) for name in names), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, CouldNotRun):  # CouldNotRun: it was dead already
                raise result
        killed = sum(not isinstance(result, BaseException) for result in results)
        return {"killed": killed, "nodes": len(names), "primaries": target.facts["primaries"]}

    async def has_taken_effect(self, lab: Lab, target: Target) -> bool:
        return not any(procs.is_alive(node["pid"], node["start_ticks"]) for node in target.facts["nodes"])

    async def undo(self, lab: Lab, target: Target) -> None:
        await enable_auto_heal(lab, target)

    async def has_recovered(self, lab: Lab, target: Target) -> bool:
        rows = {row.name: row for row in await lab.status()}
        for node in target.facts["nodes"]:
            row = rows.get(node["name"])
            if row is None or not _is_healthy(row):
                return False
            if (row.pid, row.start_ticks) == (node["pid"], node["start_ticks"]):
                return False
        return not await copies.missing(list(rows.values()))


class ZoneLoss(_DomainLoss):
    """Kills every process of a zone with SIGKILL and keeps the zone down while the fault is held.

    The target is `zone-1`, `zone-2` or `zone-3`, or `zone`: the one where the cache's primary currently runs,
    the most expensive loss. Auto-heal of all nodes of the zone is switched off before the first of them is
    killed, so that none restarts early.

    - Effect: none of the targeted processes is alive.
    - Undo: auto-heal is switched on, which immediately starts every dead node.
    - Recovery: all nodes of the zone are healthy in new processes, and the stores have as many copies of
      their data as before (`system.observe.copies`).
    """

    domain = ZONE
    kinds: tuple[str, ...] = (ZONE.word,)


class RegionLoss(_DomainLoss):
    """Kills every process of a region with SIGKILL and keeps the region down while the fault is held.

    The target is `east`, `west` or `witness`, or `region`: the active one, where the cache's primary
    currently runs. Effect, undo and recovery are those of `zone_loss`; the WAN links of the region are not
    touched.
    """

    domain = REGION
    kinds: tuple[str, ...] = (REGION.word,)


def node_names(target: Target) -> list[str]:
    """Return the names of the nodes of a target."""
    return [node["name"] for node in target.facts["nodes"]]


def all_healthy(target: Target, rows: list[NodeStatus]) -> bool:
    """Return whether every node of the target is healthy, in its old process or a new one."""
    healthy = {row.name for row in rows if _is_healthy(row)}
    return healthy >= set(node_names(target))


async def disable_auto_heal(lab: Lab, target: Target) -> None:
    """Switch auto-heal off for every node of the target."""
    await asyncio.gather(*(lab.auto_heal(name, False) for name in node_names(target)))


async def enable_auto_heal(lab: Lab, target: Target) -> None:
    """Switch auto-heal on for every node of the target that this lab has.

    If the runner that injected the fault died, a different lab, without some of these nodes, may run by now.
    Raises the first error after all nodes were tried.
    """
    existing = {row.name for row in await lab.status()}
    problems = []
    for name in node_names(target):
        if name in existing:
            try:
                await lab.auto_heal(name, True)
            except LabError as problem:
                problems.append(problem)
    if problems:
        raise problems[0]


def _is_healthy(row: NodeStatus) -> bool:
    return row.state == "healthy" and row.health == "healthy"
