"""The interface between the supervisor and what runs a node: a process of this machine, or a container.

The supervisor, the autoscaler and the healing use only `Child` and `Runtime`. The native implementation is
`children.ProcessChild`; `system.platform.containers` has the one for Docker. Both share the state machine in
`lifecycle`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.process import procs
from system.platform.servers.base import Context


@dataclass(frozen=True)
class Identity:
    """What runs a node now.

    `pid`, `start_ticks`: its main process as this machine's /proc lists it, together never reused; 0 while
    none runs. `container`: the id of its container; "" for a process.
    """

    pid: int = 0
    start_ticks: int = 0
    container: str = ""


class Child(Protocol):
    """One node of a running lab. All methods run in the supervisor's event loop.

    `state`: stopped, starting, healthy, dead (waits for its restart) or failed. `expected`: it was healthy
    and has not been stopped since, so alerts may fire if it is down. `auto_heal`: a death restarts it.
    `quota_cores`: CPU limit, None for no limit. `restarts`: automatic restarts so far. `identity`: of the
    present process, or the last one. `started_at`: its start, seconds since the epoch. `answer`: result of
    the last health probe.
    """

    ctx: Context
    node: Node
    state: str
    expected: bool
    auto_heal: bool
    quota_cores: float | None
    restarts: int
    identity: Identity
    started_at: float
    answer: str

    @property
    def log(self) -> Path:
        """The file of this machine that holds the node's output."""

    def host_path(self, path: Path) -> Path:
        """Return where this machine finds a file that the node names `path`, such as a socket."""

    def is_alive(self) -> bool:
        """Return whether its main process runs; a paused one does."""

    def is_paused(self) -> bool:
        """Return whether it was paused by `pause` and the kernel reports every process of it as frozen."""

    async def start(self) -> None:
        """Start it and wait until it is healthy.

        Raises CouldNotRun, with the last probe result and the end of the log, if it cannot start or is not
        healthy in time.
        """

    async def stop(self, *, kill: bool = False) -> None:
        """Stop it with its stop signal, then SIGKILL after its stop timeout; with `kill` SIGKILL immediately.

        Safe to repeat, and on a paused or dead child.
        """

    async def kill(self) -> None:
        """SIGKILL all processes of the node; a paused one dies too. `auto_heal` then restarts it."""

    def restart(self) -> None:
        """Restart it in the background, unless it runs or a restart is in progress."""

    async def pause(self) -> None:
        """Freeze every process of the node; return when the kernel reports all of them as frozen.

        Safe to repeat. Raises CouldNotRun if the node has no process or does not freeze.
        """

    async def resume(self) -> None:
        """Let a paused node continue. Safe to repeat, and on a node that is not paused or has died."""

    async def limit(self, cores: float | None) -> None:
        """Limit its CPU to `cores` once it is healthy; None removes the limit. A start is never limited."""

    async def probe(self) -> str:
        """Probe the node; return "healthy", or why it is unhealthy."""

    def cpu_ns(self, known: procs.Tree | None = None) -> int:
        """Return the CPU time, in ns, of this node since the lab was started, including earlier processes.

        `known`: a current `procs.process_tree`; None reads it if needed.
        """

    def rss_bytes(self, known: procs.Tree | None = None) -> int:
        """Return the resident memory, in bytes, page cache excluded. `known`: as for `cpu_ns`."""


Changed = Callable[[], None]
"""Called after each change of a child's state."""


class Runtime(Protocol):
    """What runs the nodes of one lab.

    `name`: the provider, as `tweetlab up --provider` and a run's record name it. `plan`: the addresses of its
    nodes. `accounting`: "v1", "v2" or "none", the control groups that count CPU time and enforce quotas.
    """

    name: str
    plan: Plan

    @property
    def accounting(self) -> str: ...

    def context(self, node: Node, blueprint: Blueprint, env: Mapping[str, str]) -> Context:
        """Return what the launch of a node depends on. `env`: for our services."""

    async def prepare(self, nodes: tuple[Node, ...]) -> None:
        """Check and create what these nodes need to start.

        Raises CouldNotRun, with the fix, if something is missing or in use.
        """

    def child(self, ctx: Context, changed: Changed) -> Child:
        """Return the child of a node, without starting it."""

    def process_tree(self) -> procs.Tree | None:
        """Return the process tree if children need it to count CPU and memory, to read it once for all."""

    async def remove(self) -> None:
        """Remove what `prepare` and the children created; all children have been stopped."""
