"""What every provider of a platform promises, and what it answers with.

One line of JSON asks, one or more lines answer; these are the shapes of both ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from system.platform.blueprint import Blueprint

Progress = Callable[[str, str], None]  # (node, what happened)
Prepare = Callable[[dict[str, Any]], Awaitable[None]]  # makes schema, topics, index, bucket in these stores


@dataclass(frozen=True)
class NodeStatus:
    """One node, now.

    `state`: stopped, starting, well, dead (waits for healing) or failed. `health`: "well", or why not, asked now.
    `started_at`: seconds since the epoch. `start_ticks`: with `pid` the identity of the process.
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


@dataclass(frozen=True)
class Killed:
    """A process that was killed on purpose: enough to prove that it is gone and another came."""

    node: str
    pid: int
    start_ticks: int


class Provider(Protocol):
    """A platform that can be brought up, asked and taken down."""

    async def up(
        self,
        blueprint: Blueprint,
        services_env: Mapping[str, str] | None = None,
        *,
        prepare: Prepare | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Start all stores at once, then `prepare` them, then the services; all or nothing."""

    async def down(self, *, purge: bool = False) -> None:
        """Stop everything; `purge` removes the data too. Safe to repeat."""

    async def status(self) -> list[NodeStatus]:
        """Return every node, in the order of the blueprint; empty where the lab is down."""

    async def restart_services(self, env: Mapping[str, str]) -> None:
        """Start our services anew with `env` merged into theirs; the stores stay."""

    async def kill(self, node: str) -> Killed:
        """SIGKILL a node. Auto-heal brings it back unless it is off for this node."""

    async def auto_heal(self, node: str, on: bool) -> None:
        """Switch healing of a node. Switching it on heals a dead node at once."""

    async def cpu_ns(self) -> dict[str, int]:
        """Return the CPU time of each node since it came up, in ns, exited threads and children included."""

    async def rss_bytes(self) -> dict[str, int]:
        """Return the resident memory of each node."""
