"""What a platform answers with.

One line of JSON asks, one or more lines answer; these are the shapes of both ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str, str], None]  # (node, what happened)
Prepare = Callable[[dict[str, Any]], Awaitable[None]]  # makes schema, topics, index, bucket in these stores


@dataclass(frozen=True)
class NodeStatus:
    """One node, now.

    `state`: stopped, starting, well, dead (waits for healing) or failed. `health`: "healthy", or why not, asked now.
    `started_at`: seconds since the epoch. `start_ticks`: with `pid` the identity of the process. `zone`: what fails together, 0
    where the lab has no zones. `region`: whose network it is in (`kernel/wan.NAMES`), 0 where the lab has no regions.
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


@dataclass(frozen=True)
class Killed:
    """A process that was killed on purpose: enough to prove that it is gone and another came."""

    node: str
    pid: int
    start_ticks: int
