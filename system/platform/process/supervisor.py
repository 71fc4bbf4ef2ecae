"""The supervisor owns every process of a lab. The module `control` runs it and serves its clients."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable
from typing import Any

from system.kernel.errors import CouldNotRun, LabError, WrongInput
from system.platform import blueprint, targets
from system.platform.blueprint import Blueprint, Node
from system.platform.paths import Paths
from system.platform.process import orphan_cleanup, procs
from system.platform.process.child import Child, Runtime
from system.platform.provider import Progress
from system.platform.regions import primary_placement
from system.platform.scaling import rolling_restart
from system.platform.scaling.autoscaler import Autoscaler
from system.platform.servers.base import Context

_log = logging.getLogger("tweetlab")

Request = dict[str, Any]


class Supervisor:
    """The children of one lab and the operations on them."""

    def __init__(self, paths: Paths, runtime: Runtime) -> None:
        self.paths, self.runtime = paths, runtime
        self.plan = runtime.plan
        self.children: dict[str, Child] = {}
        self.blueprint = Blueprint("", ())
        self.env: dict[str, str] = {}
        self.kind_env: dict[str, dict[str, str]] = {}  # overrides of `env` for one kind of service
        self.autoscaler = Autoscaler(self, lambda: self._starting.locked())
        self._starting = asyncio.Lock()

    async def start(self, request: Request, progress: Progress, started: list[Child]) -> dict[str, Any]:
        """Start the missing nodes of the requested roles, in parallel; the first failure ends it.

        Appends the new children to `started`. Raises CouldNotRun if a lab of another blueprint is up, or if a
        node does not start.
        """
        wanted = blueprint.from_json(request["blueprint"])
        if self.children and wanted.name != self.blueprint.name:
            raise CouldNotRun(
                f"A lab of the blueprint {self.blueprint.name!r} is up in range {self.plan.range}; "
                f"to start {wanted.name!r} run `tweetlab down` first."
            )
        # Existing nodes stay: a plain `up` does not remove the observability stack or added instances.
        self.blueprint = wanted.with_nodes_of(self.blueprint) if self.children else wanted
        if request.get("env"):
            self.env.update(request["env"])
            self.kind_env.clear()
        nodes = tuple(n for n in wanted.nodes if n.role in request["roles"] and n.name not in self.children)
        await self.runtime.prepare(nodes)
        fresh = [self.add_child(node) for node in nodes]
        started.extend(fresh)
        for is_network in (True, False):  # the regions reach each other only through the WAN emulator
            children = [child for child in fresh if (child.node.role == "network") is is_network]
            await _all_or_first_failure([self._start_one(child, progress) for child in children])
        return {"started": [child.node.name for child in fresh], "accounting": self.runtime.accounting}

    async def run(self) -> None:
        """Run the autoscaler and the primary placement until cancelled."""
        await asyncio.gather(self.autoscaler.run(), primary_placement.PrimaryPlacement(self.children).run())

    async def shut_down(self) -> None:
        """Stop every node; remove what the runtime created and the file that lists the children."""
        await self.stop(list(self.children.values()))
        await self.runtime.remove()
        self.paths.children.unlink(missing_ok=True)

    async def stop_services(self) -> None:
        """Stop every service and worker; they stay down until `restart_services`."""
        await self.stop([child for child in self.children.values() if child.node.role == "service"])

    async def restart_services(self, request: Request, progress: Progress) -> dict[str, Any]:
        """Stop all services and start them with the changed environment.

        Raises CouldNotRun if one does not start; then all of them are stopped.
        """
        self.env.update(request["env"])
        services = [child for child in self.children.values() if child.node.role == "service"]
        await self.stop(services)
        for child in services:
            self.refresh(child)
        try:
            await _all_or_first_failure([self._start_one(child, progress) for child in services])
        except LabError:
            await self.stop(services)  # a lab with half of its services running could be mistaken for a healthy one
            raise
        return {"restarted": [child.node.name for child in services]}

    async def rolling_restart(self, request: Request) -> dict[str, Any]:
        """Restart each instance of one service without failing requests; `env` is merged into theirs."""
        kind = str(request["service"])
        if kind not in self.autoscaler.kinds():
            raise WrongInput(f"The service {kind!r} is unknown; known are {', '.join(self.autoscaler.kinds()) or 'none'}.")
        self.kind_env.setdefault(kind, {}).update(request["env"])
        return {"renewed": await rolling_restart.run(self.autoscaler, kind)}

    async def status(self) -> list[dict[str, Any]]:
        """Probe every node in parallel and return a row for each."""
        children = list(self.children.values())
        answers = await asyncio.gather(*(child.probe() for child in children))
        return [row(child, answer) for child, answer in zip(children, answers, strict=True)]

    async def kill(self, name: str) -> dict[str, Any]:
        """SIGKILL one node and return its process. Raises CouldNotRun if it has no process."""
        child = self.child(name)
        if not child.is_alive():
            raise CouldNotRun(f"{name} has no process to kill; its state is {child.state!r}.")
        killed = {"node": name, "pid": child.identity.pid, "start_ticks": child.identity.start_ticks}
        await child.kill()
        return killed

    def auto_heal(self, name: str, on: bool) -> None:
        """Enable or disable the automatic restart of one node; enabling it restarts a dead node."""
        child = self.child(name)
        child.auto_heal = on
        if on and child.state == "dead":
            child.restart()

    def cpu_ns(self) -> dict[str, int]:
        """Return the CPU time, in ns, of each node and of the supervisor itself."""
        tree = self.runtime.process_tree()
        return {**{name: child.cpu_ns(tree) for name, child in self.children.items()}, "supervisor": time.process_time_ns()}

    def rss_bytes(self) -> dict[str, int]:
        """Return the resident memory, in bytes, of each node and of the supervisor itself."""
        tree = self.runtime.process_tree()
        rows = {name: child.rss_bytes(tree) for name, child in self.children.items()}
        return {**rows, "supervisor": procs.rss_bytes([os.getpid()])}

    async def exclusive(self, work: Awaitable[Any]) -> Any:
        """Run `work` unless another start is in progress. Raises CouldNotRun if one is."""
        if self._starting.locked():
            raise CouldNotRun(f"Another start of range {self.plan.range} is in progress; wait for it or run `tweetlab down`.")
        async with self._starting:
            return await work

    async def _start_one(self, child: Child, progress: Progress) -> None:
        began = time.monotonic()
        await child.start()
        progress(child.node.name, f"healthy after {time.monotonic() - began:.1f} s: {child.answer}")

    def add_child(self, node: Node) -> Child:
        """Create the child of an additional node, without starting it."""
        child = self.runtime.child(self._context(node), self._record)
        self.children[node.name] = child
        return child

    def forget_child(self, name: str) -> None:
        """Remove a stopped child from the lab."""
        self.children.pop(name, None)
        self._record()

    def _context(self, node: Node) -> Context:
        return self.runtime.context(node, self.blueprint, {**self.env, **self.kind_env.get(node.kind, {})})

    def refresh(self, child: Child) -> None:
        """Give a stopped child the current environment for its next start."""
        child.ctx = self._context(child.node)

    def child(self, name: str) -> Child:
        """Return the child of a node. Raises WrongInput for an unknown name."""
        if name not in self.children:
            known = ", ".join(self.children) or "none"
            raise WrongInput(f"The node {name!r} is unknown; known are {known}.")
        return self.children[name]

    def _record(self) -> None:
        alive = [child for child in self.children.values() if child.is_alive()]
        rows = {child.node.name: {"pid": child.identity.pid, "start_ticks": child.identity.start_ticks} for child in alive}
        rows["supervisor"] = {"pid": os.getpid(), "start_ticks": procs.start_ticks(os.getpid())}
        try:
            orphan_cleanup.write_children(self.paths, rows)
            targets.write(self.paths, list(self.children.values()))
        except OSError as problem:  # the disk is full, or the checkout was removed: continue, so that nodes are still restarted
            _log.warning("the list of running processes could not be written: %s", problem)

    async def stop(self, children: list[Child], *, kill: bool = False) -> None:
        """Stop these nodes, the WAN emulator last."""
        for is_network in (False, True):
            group = [child for child in children if (child.node.role == "network") is is_network]
            await asyncio.gather(*(child.stop(kill=kill) for child in group))

    async def roll_back(self, started: list[Child]) -> None:
        """Kill and remove the children that a client started and did not commit."""
        await self.stop(started, kill=True)
        for child in started:
            self.children.pop(child.node.name, None)
        started.clear()
        self._record()


async def _all_or_first_failure(work: list[Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def row(child: Child, answer: str) -> dict[str, Any]:
    """Return the row of one node in `status`. `answer`: result of its health probe."""
    return {
        "name": child.node.name,
        "kind": child.node.kind,
        "role": child.node.role,
        "state": child.state,
        "pid": child.identity.pid if child.is_alive() else 0,
        "start_ticks": child.identity.start_ticks,
        "address": child.ctx.address,
        "started_at": child.started_at,
        "restarts": child.restarts,
        "rss_bytes": child.rss_bytes(),
        "health": answer,
        "auto_heal": child.auto_heal,
        "zone": child.node.zone,
        "region": child.node.region,
        "paused": child.is_paused(),
    }
