"""What every fault is made of: the lab it strikes, the target it aimed at, and the steps it goes through.

A fault aims (finds its target among what this lab owns), injects, proves by a probe that it bites, is undone, and
proves by a second probe that it is gone. It strikes only a process that the lab's supervisor owns, known by
pid and start time, or a server that answers at that process' address.
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

LOOK_EVERY_S = 0.05  # resolution of recovery times; to ask the status of twenty nodes costs the supervisor about 1 ms


class Lab(Protocol):
    """What a fault needs of a platform."""

    paths: Paths

    async def blueprint(self) -> Blueprint: ...
    async def status(self) -> list[NodeStatus]: ...
    async def kill(self, node: str) -> Killed: ...
    async def auto_heal(self, node: str, on: bool) -> None: ...


@dataclass(frozen=True)
class Target:
    """A target, as it was when it was aimed at. `pid` and `start_ticks` name the very process; `facts`: plain JSON values.

    `asked`: what the scenario says of the fault's strength, by name; empty for a fault that has but one.
    """

    node: str
    pid: int
    start_ticks: int
    address: str
    facts: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)


class Fault(Protocol):
    """One way to break the system. `held`: lasts until it is undone. `kinds`: kinds of node it strikes, empty for any.

    `recovers_within_s`: how long its recovery probe is asked, `look_every_s`: the pause between two questions.
    """

    held: bool
    kinds: tuple[str, ...]
    recovers_within_s: float
    look_every_s: float

    async def aim(self, lab: Lab, target: str) -> Target:
        """Return the target; changes nothing. Raises WrongInput or CouldNotRun where the lab does not own such a one."""
        ...

    async def inject(self, lab: Lab, aim: Target) -> dict[str, Any]:
        """Break it; return what the record should keep."""
        ...

    async def bites(self, lab: Lab, aim: Target) -> bool:
        """Effect probe: say whether the fault is seen to work."""
        ...

    async def undo(self, lab: Lab, aim: Target) -> None:
        """Take the fault back. Safe to repeat, and safe where it was never injected."""
        ...

    async def gone(self, lab: Lab, aim: Target) -> bool:
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
