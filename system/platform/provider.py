"""The types of the platform's interface: what `native.Lab` returns and the callbacks it takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str, str], None]  # (node, what happened)
Prepare = Callable[[dict[str, Any]], Awaitable[None]]  # creates schema, topics, index, bucket in these stores


@dataclass(frozen=True)
class NodeStatus:
    """One node, now.

    `state`: stopped, starting, healthy, dead (waits for its restart) or failed. `health`: "healthy", or why
    not, by a probe made now. `started_at`: seconds since the epoch. `start_ticks`: with `pid` the identity of
    the process. `zone`: the failure domain, 0 if the lab has no zones. `region`: the region's network it is
    in (`kernel/wan.NAMES`), 0 if the lab has no regions. `paused`: it was paused, and the kernel reports all
    its processes as frozen.
    """

    name: str
    kind: str
    role: str
    state: str
    pid: int
    start_ticks: int
    address: str
    started_at: float
    restarts: int
    rss_bytes: int
    health: str
    auto_heal: bool
    zone: int = 0
    region: int = 0
    paused: bool = False


@dataclass(frozen=True)
class Killed:
    """The identity of a process that was killed on purpose, to prove later that it is dead."""

    node: str
    pid: int
    start_ticks: int
