"""The interface of a fault: the lab it runs against, its target, and its steps.

The steps: choose a target among the processes of this lab, inject, confirm with an effect probe that the
injection took effect, undo, and confirm with a recovery probe that the target has recovered. A fault touches
only a process that the lab's supervisor owns (identified by pid and start time), or a server that listens at
that process's address.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from system.kernel.errors import CouldNotRun, WrongInput
from system.platform.blueprint import Blueprint
from system.platform.paths import Paths
from system.platform.process import procs
from system.platform.provider import Killed, NodeStatus
from system.platform.servers import sentinel

# Resolution of recovery times; the status of twenty nodes costs the supervisor about 1 ms.
PROBE_EVERY_S = 0.05


class Lab(Protocol):
    """The part of a platform that faults use."""

    paths: Paths

    async def blueprint(self) -> Blueprint: ...
    async def status(self) -> list[NodeStatus]: ...
    async def kill(self, node: str) -> Killed: ...
    async def pause(self, node: str) -> None: ...
    async def resume(self, node: str) -> None: ...
    async def auto_heal(self, node: str, on: bool) -> None: ...


@dataclass(frozen=True)
class Target:
    """The target of a fault, as it was when it was chosen.

    `node`: the node, zone, region or `lines`. `pid`, `start_ticks`: identity of the process; 0 where there is
    none. `address`: host:port. `facts`: plain JSON values that the later steps need. `strength`: parameters
    of the fault that the scenario sets (`delay_s`, `loss`); empty for faults without any.
    """

    node: str
    pid: int
    start_ticks: int
    address: str
    facts: dict[str, Any] = field(default_factory=dict)
    strength: dict[str, float] = field(default_factory=dict)


class Fault(Protocol):
    """One way to break the system.

    `held`: it lasts until it is undone; otherwise it is instant. `kinds`: the kinds of node that it accepts
    as target, empty for any. `recovers_within_s`: longest allowed recovery in seconds, unless a scenario sets
    another. `probe_every_s`: pause between recovery probes.
    """

    held: bool
    kinds: tuple[str, ...]
    recovers_within_s: float
    probe_every_s: float

    async def choose_target(self, lab: Lab, name: str) -> Target:
        """Return the target called `name`. Changes nothing.

        Raises WrongInput for an unknown target or one of the wrong kind, CouldNotRun where its state would
        make the drill prove nothing.
        """
        ...

    async def inject(self, lab: Lab, target: Target) -> dict[str, Any]:
        """Break the target; return the facts that the record keeps."""
        ...

    async def has_taken_effect(self, lab: Lab, target: Target) -> bool:
        """Effect probe: return whether the injection has visibly taken effect."""
        ...

    async def undo(self, lab: Lab, target: Target) -> None:
        """Undo the fault. Idempotent, and safe where the fault was never injected."""
        ...

    async def has_recovered(self, lab: Lab, target: Target) -> bool:
        """Recovery probe: return whether the target is as healthy as before the fault."""
        ...


async def owned(lab: Lab, name: str, kinds: tuple[str, ...]) -> NodeStatus:
    """Return the node called `name`, or the first node of that kind.

    Its process is alive and owned by this lab. `kinds`: accepted kinds, empty for any. For `redis` under
    sentinels, the first node is the current primary. Raises WrongInput for an unknown node or a kind that is
    not accepted, CouldNotRun for a node without a live process.
    """
    rows = await lab.status()
    node = next((row for row in rows if row.name == name), None) or await _first(rows, name)
    if node is None:
        names = ", ".join(sorted(row.name for row in rows)) or "none: it is down"
        raise WrongInput(f"The fault's target is {name!r}; nodes of this lab: {names}.")
    if kinds and node.kind not in kinds:
        raise WrongInput(f"The fault's target {node.name} is of kind {node.kind}; this fault accepts {', '.join(kinds)}.")
    if not procs.is_alive(node.pid, node.start_ticks):
        raise CouldNotRun(f"{node.name} has no live process in this lab (state {node.state!r}), so there is nothing to break.")
    return node


async def _first(rows: list[NodeStatus], kind: str) -> NodeStatus | None:
    same_kind = [row for row in rows if row.kind == kind]
    if kind != "redis" or len(same_kind) < 2:
        return same_kind[0] if same_kind else None
    primary = await asyncio.to_thread(sentinel.elected_primary, [row.address for row in rows if row.kind == "sentinel"])
    if not primary:
        raise CouldNotRun("No majority of the sentinels agrees on a primary of the cache; see `tweetlab status`.")
    return next((row for row in same_kind if row.address == primary), None)
