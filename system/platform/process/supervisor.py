"""The supervisor: owns every process of a lab. `control` is the process that callers talk to."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from system.kernel.errors import CouldNotRun, LabError, WrongInput
from system.platform import blueprint, targets
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.install import preflight
from system.platform.paths import Paths
from system.platform.process import cgroups, orphan_cleanup, procs
from system.platform.process.children import Child
from system.platform.regions import network, primary_placement
from system.platform.scaling import rolling_restart
from system.platform.scaling.autoscaler import Autoscaler
from system.platform.servers.base import Context

_log = logging.getLogger("tweetlab")

Tell = Callable[[str, str], None]
Request = dict[str, Any]


class Supervisor:
    """The children of one lab and the operations on them."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.plan = Plan(paths.range)
        self.groups = cgroups.open_groups(paths.lab_id)
        self.children: dict[str, Child] = {}
        self.blueprint = Blueprint("", ())
        self.env: dict[str, str] = {}
        self.kind_env: dict[str, dict[str, str]] = {}  # what one kind of service got besides, or instead
        self.began_at = time.time()
        self.autoscaler = Autoscaler(self, lambda: self._starting.locked())
        self._starting = asyncio.Lock()

    async def start(self, request: Request, tell: Tell, started: list[Child]) -> dict[str, Any]:
        """Start the nodes of these roles that do not run yet, all at once; the first failure ends the start."""
        wanted = blueprint.from_json(request["blueprint"])
        if self.children and wanted.name != self.blueprint.name:
            raise CouldNotRun(
                f"A lab of the blueprint {self.blueprint.name!r} is up in range {self.plan.range}; "
                f"to start {wanted.name!r} run `tweetlab down` first."
            )
        # What stands already stays: a lab that is observed, or was scaled out, is not made smaller by a plain `up`.
        self.blueprint = wanted.with_nodes_of(self.blueprint) if self.children else wanted
        if request.get("env"):
            self.env.update(request["env"])
            self.kind_env.clear()
        nodes = tuple(n for n in wanted.nodes if n.role in request["roles"] and n.name not in self.children)
        preflight.check_ports(nodes, self.plan)
        fresh = [self.adopt(node) for node in nodes]
        started.extend(fresh)
        for carriers in (True, False):  # without its lines no region finds another
            some = [child for child in fresh if (child.node.role == "network") is carriers]
            await _all_or_first_failure([self._start_one(child, tell) for child in some])
        return {"started": [child.node.name for child in fresh], "accounting": self.groups.kind}

    async def run(self) -> None:
        """Scale the services and place the primaries, until cancelled."""
        await asyncio.gather(self.autoscaler.run(), primary_placement.PrimaryPlacement(self.children).run())

    async def shut_down(self) -> None:
        """Stop every node and remove what the lab made outside of its processes."""
        await self.stop(list(self.children.values()))
        network.remove(self.paths, self.plan)
        self.groups.remove()
        self.paths.children.unlink(missing_ok=True)

    async def stop_services(self) -> None:
        """Stop every service and worker; they stay down until `restart_services`."""
        await self.stop([child for child in self.children.values() if child.node.role == "service"])

    async def restart_services(self, request: Request, tell: Tell) -> dict[str, Any]:
        """Start our services again with the changed environment."""
        self.env.update(request["env"])
        services = [child for child in self.children.values() if child.node.role == "service"]
        await self.stop(services)
        for child in services:
            self.refresh(child)
        try:
            await _all_or_first_failure([self._start_one(child, tell) for child in services])
        except LabError:
            await self.stop(services)  # dead services are told as such; half of them running would be a lie
            raise
        return {"restarted": [child.node.name for child in services]}

    async def renew(self, request: Request) -> dict[str, Any]:
        """Start each instance of one service again with `env` in its environment, without a failed request."""
        kind = str(request["service"])
        if kind not in self.autoscaler.kinds():
            raise WrongInput(f"The service {kind!r} is unknown; known are {', '.join(self.autoscaler.kinds()) or 'none'}.")
        self.kind_env.setdefault(kind, {}).update(request["env"])
        return {"renewed": await rolling_restart.renew(self.autoscaler, kind)}

    async def status(self) -> list[dict[str, Any]]:
        """Return a row for each node, asked now and all at once."""
        children = list(self.children.values())
        answers = await asyncio.gather(*(child.probe() for child in children))
        return [row(child, answer) for child, answer in zip(children, answers, strict=True)]

    def kill(self, name: str) -> dict[str, Any]:
        """SIGKILL one node."""
        child = self.child(name)
        if not child.is_alive():
            raise CouldNotRun(f"{name} has no process to kill; its state is {child.state!r}.")
        killed = {"node": name, "pid": child.pid, "start_ticks": child.start_ticks}
        child.kill()
        return killed

    def auto_heal(self, name: str, on: bool) -> None:
        """Switch healing of one node."""
        child = self.child(name)
        child.auto_heal = on
        if on and child.state == "dead":
            child.heal()

    def cpu_ns(self) -> dict[str, int]:
        """Return the CPU time of each node and of the supervisor itself."""
        family = self._family()
        return {**{name: child.cpu_ns(family) for name, child in self.children.items()}, "supervisor": time.process_time_ns()}

    def rss_bytes(self) -> dict[str, int]:
        """Return the resident memory of each node and of the supervisor itself."""
        family = self._family()
        rows = {name: procs.rss_bytes(child.pids(family)) for name, child in self.children.items()}
        return {**rows, "supervisor": procs.rss_bytes([os.getpid()])}

    def _family(self) -> procs.Family | None:
        """Without control groups, who belongs to whom stands in /proc alone: it is read once for all nodes, not once for each."""
        return procs.family() if self.groups.kind == "none" else None

    async def alone(self, work: Awaitable[Any]) -> Any:
        """Do `work` unless another start is under way. Raises CouldNotRun."""
        if self._starting.locked():
            raise CouldNotRun(f"Another start of range {self.plan.range} is under way; wait for it or `tweetlab down`.")
        async with self._starting:
            return await work

    async def _start_one(self, child: Child, tell: Tell) -> None:
        began = time.monotonic()
        await child.start()
        tell(child.node.name, f"healthy after {time.monotonic() - began:.1f} s: {child.answer}")

    def adopt(self, node: Node) -> Child:
        """Return the child of a further node, not started."""
        child = Child(self._context(node), self.groups, lambda _: self._record())
        self.children[node.name] = child
        return child

    def release(self, name: str) -> None:
        """Forget a stopped child."""
        self.children.pop(name, None)
        self._record()

    def _context(self, node: Node) -> Context:
        return Context(node, self.blueprint, self.plan, self.paths, {**self.env, **self.kind_env.get(node.kind, {})})

    def refresh(self, child: Child) -> None:
        """Let a stopped child start with the environment of now."""
        child.ctx = self._context(child.node)

    def child(self, name: str) -> Child:
        """Return a node's child. Raises WrongInput for an unknown name."""
        if name not in self.children:
            known = ", ".join(self.children) or "none"
            raise WrongInput(f"The node {name!r} is unknown; known are {known}.")
        return self.children[name]

    def _record(self) -> None:
        alive = [child for child in self.children.values() if child.is_alive()]
        rows = {child.node.name: {"pid": child.pid, "start_ticks": child.start_ticks} for child in alive}
        rows["supervisor"] = {"pid": os.getpid(), "start_ticks": procs.start_ticks(os.getpid())}
        try:
            orphan_cleanup.write_children(self.paths, rows)
            targets.write(self.paths, list(self.children.values()))
        except OSError as problem:  # the disk is full, or the checkout was removed: what runs is still healed
            _log.warning("who runs could not be written down: %s", problem)

    async def stop(self, children: list[Child], *, kill: bool = False) -> None:
        """Stop these nodes, the lines between regions last."""
        for carriers in (False, True):
            some = [child for child in children if (child.node.role == "network") is carriers]
            await asyncio.gather(*(child.stop(kill=kill) for child in some))

    async def take_back(self, started: list[Child]) -> None:
        """Kill and forget what a caller started and did not commit."""
        await self.stop(started, kill=True)
        for child in started:
            self.children.pop(child.node.name, None)
        started.clear()
        self._record()


async def _all_or_first_failure(work: list[Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def row(child: Child, answer: str) -> dict[str, Any]:
    """Return what `status` tells of a node. `answer`: of its health probe."""
    return {
        "name": child.node.name,
        "kind": child.node.kind,
        "role": child.node.role,
        "state": child.state,
        "pid": child.pid if child.is_alive() else 0,
        "start_ticks": child.start_ticks,
        "address": child.ctx.address,
        "started_at": child.started_at,
        "restarts": child.restarts,
        "rss_bytes": procs.rss_bytes(child.pids()),
        "health": answer,
        "auto_heal": child.auto_heal,
        "zone": child.node.zone,
        "region": child.node.region,
    }
