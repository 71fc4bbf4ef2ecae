"""The supervisor: one process a lab that owns all its children. `python -m system.platform.process.supervisor ROOT RANGE`.

It listens on a Unix socket; a request is one line of JSON `{"op": ..., ...}`, answered by any number of
lines `{"progress": [node, text]}` and one last line `{"result": ...}` or `{"error": {...}}`.

Starting is a transaction: what `start` brought up on a connection stays only after `commit` on it. Where
the connection ends without, all that it started is taken down again: a caller that dies half-way leaves
nothing half-started. A supervisor without children ends itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from system.kernel.errors import CouldNotRun, LabError, WrongInput
from system.kernel.telemetry import logs
from system.platform import blueprint, targets
from system.platform.addresses import Plan
from system.platform.blueprint import Blueprint, Node
from system.platform.install import preflight
from system.platform.paths import Places
from system.platform.process import cgroups, control, orphan_cleanup, procs
from system.platform.process.children import Child
from system.platform.regions import network, primary_placement
from system.platform.scaling import rolling_restart
from system.platform.scaling.autoscaler import Keeper
from system.platform.servers.base import Context

IDLE_S = 20.0  # how long a supervisor without children and callers stays
OPEN_FILES = 65536
MAX_LINE_BYTES = 4 * 2**20

_log = logging.getLogger("tweetlab")

Tell = Callable[[str, str], None]
Request = dict[str, Any]


class Supervisor:
    """The children of one lab and the operations on them."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.plan = Plan(places.range)
        self.groups = cgroups.open_groups(places.lab_id)
        self.children: dict[str, Child] = {}
        self.blueprint = Blueprint("", ())
        self.env: dict[str, str] = {}
        self.kind_env: dict[str, dict[str, str]] = {}  # what one kind of service got besides, or instead
        self.began_at = time.time()
        self.stopping = asyncio.Event()
        self.keeper = Keeper(self, lambda: self._starting.locked())
        self._starting = asyncio.Lock()
        self._callers = 0
        self._open: list[list[Child]] = []  # what each caller has started and not committed

    async def serve(self) -> None:
        """Answer callers until told to stop, or until there has been nothing to do for a while."""
        self.places.socket.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve_caller, self.places.socket, limit=MAX_LINE_BYTES)
        os.chmod(self.places.socket, 0o600)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopping.set)
        async with server:
            tasks = [asyncio.create_task(self._leave_when_idle()), asyncio.create_task(self.keeper.run()),
                     asyncio.create_task(primary_placement.Placement(self.children).run())]
            await self.stopping.wait()
            for task in tasks:
                task.cancel()
        await self._stop(list(self.children.values()))
        network.remove(self.places, self.plan)
        self.groups.remove()
        for trace in (self.places.children, self.places.socket):
            trace.unlink(missing_ok=True)

    async def start(self, request: Request, tell: Tell, begun: list[Child]) -> dict[str, Any]:
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
        begun.extend(fresh)
        for carriers in (True, False):  # without its lines no region finds another
            some = [child for child in fresh if (child.node.role == "network") is carriers]
            await _all_or_first_failure([self._start_one(child, tell) for child in some])
        return {"started": [child.node.name for child in fresh], "accounting": self.groups.kind}

    async def stop_services(self) -> None:
        """Stop every service and worker; they stay down until `restart_services`."""
        await self._stop([child for child in self.children.values() if child.node.role == "service"])

    async def restart_services(self, request: Request, tell: Tell) -> dict[str, Any]:
        """Start our services anew with the changed environment."""
        self.env.update(request["env"])
        services = [child for child in self.children.values() if child.node.role == "service"]
        await self._stop(services)
        for child in services:
            self.refresh(child)
        try:
            await _all_or_first_failure([self._start_one(child, tell) for child in services])
        except LabError:
            await self._stop(services)  # dead services are told as such; half of them running would be a lie
            raise
        return {"restarted": [child.node.name for child in services]}

    async def renew(self, request: Request) -> dict[str, Any]:
        """Start each instance of one service anew with `env` in its environment, without a failed request."""
        kind = str(request["service"])
        if kind not in self.keeper.kinds():
            raise WrongInput(f"The service {kind!r} is unknown; known are {', '.join(self.keeper.kinds()) or 'none'}.")
        self.kind_env.setdefault(kind, {}).update(request["env"])
        return {"renewed": await rolling_restart.renew(self.keeper, kind)}

    async def status(self) -> list[dict[str, Any]]:
        """Return a row for each node, asked now and all at once."""
        children = list(self.children.values())
        answers = await asyncio.gather(*(child.probe() for child in children))
        return [control.row(child, answer) for child, answer in zip(children, answers, strict=True)]

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

    async def _answer(self, request: Request, tell: Tell, begun: list[Child]) -> Any:
        name = str(request.get("op"))
        if name == "commit":
            begun.clear()
            return {"nodes": len(self.children)}
        if name == "down":
            await self._stop(list(self.children.values()), kill=bool(request.get("kill")))
            self.children.clear()
            return {"stopped": True}
        table = control.table(self, request, tell, begun)
        if name not in table:
            raise WrongInput(f"The operation {name!r} is unknown; known are {', '.join(sorted(table))}, commit, down.")
        return await table[name]()

    async def _serve_caller(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun: list[Child] = []
        self._open.append(begun)
        self._callers += 1

        def say(message: dict[str, Any]) -> None:
            if not writer.is_closing():
                writer.write(json.dumps(message).encode() + b"\n")

        def tell(node: str, text: str) -> None:
            say({"progress": [node, text]})

        try:
            while (line := await reader.readline()) and not self.stopping.is_set():
                request = json.loads(line)
                if not await self._obey(request, say, tell, begun, reader):
                    break
                await writer.drain()
                if request.get("op") == "down":
                    self.stopping.set()
        except (ConnectionError, ValueError) as problem:
            _log.warning("a caller went away or spoke nonsense: %s", problem)
        finally:
            self._callers -= 1
            if begun:
                await self._take_back(begun)
            self._open = [each for each in self._open if each is not begun]
            writer.close()

    async def _obey(
        self, request: Request, say: Callable[[dict[str, Any]], None], tell: Tell, begun: list[Child],
        reader: asyncio.StreamReader,
    ) -> bool:  # fmt: skip
        """Carry out one request; False where the caller went away meanwhile."""
        work = asyncio.ensure_future(self._answer(request, tell, begun))
        gone = asyncio.ensure_future(_end_of(reader))
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError, LabError):
                await work
            return False
        gone.cancel()
        try:
            say({"result": work.result()})
        except LabError as problem:
            if begun:
                await self._take_back(begun)
            say({"error": {"class": type(problem).__name__, "detail": problem.detail}})
        return True

    def settled(self) -> dict[str, int]:
        """Return how many children await their commit, and how many there are."""
        return {"pending": sum(map(len, self._open)), "nodes": len(self.children)}

    async def alone(self, work: Awaitable[Any]) -> Any:
        """Do `work` unless another start is under way. Raises CouldNotRun."""
        if self._starting.locked():
            raise CouldNotRun(f"Another start of range {self.plan.range} is under way; wait for it or `tweetlab down`.")
        async with self._starting:
            return await work

    async def _start_one(self, child: Child, tell: Tell) -> None:
        began = time.monotonic()
        await child.start()
        tell(child.node.name, f"well after {time.monotonic() - began:.1f} s: {child.answer}")

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
        return Context(node, self.blueprint, self.plan, self.places, {**self.env, **self.kind_env.get(node.kind, {})})

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
            orphan_cleanup.write_children(self.places, rows)
            targets.write(self.places, list(self.children.values()))
        except OSError as problem:  # the disk is full, or the checkout was removed: what runs is still healed
            _log.warning("who runs could not be written down: %s", problem)

    async def _stop(self, children: list[Child], *, kill: bool = False) -> None:
        for carriers in (False, True):
            some = [child for child in children if (child.node.role == "network") is carriers]
            await asyncio.gather(*(child.stop(kill=kill) for child in some))

    async def _take_back(self, begun: list[Child]) -> None:
        await self._stop(begun, kill=True)
        for child in begun:
            self.children.pop(child.node.name, None)
        begun.clear()
        self._record()

    async def _leave_when_idle(self) -> None:
        idle_since = time.monotonic()
        while time.monotonic() - idle_since < IDLE_S:
            await asyncio.sleep(1.0)
            if self.children or self._callers:
                idle_since = time.monotonic()
        self.stopping.set()


async def _end_of(reader: asyncio.StreamReader) -> None:
    """Return when the caller has closed its end; requests that wait in the buffer stay there."""
    while not reader.at_eof():
        await asyncio.sleep(0.1)


async def _all_or_first_failure(work: list[Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def main(arguments: list[str]) -> int:
    """Sweep, then serve. Exit code 3 where another supervisor owns the lab."""
    logs.setup("supervisor")
    places = Places(Path(arguments[0]), int(arguments[1]))
    places.make()
    with (places.lair / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.error("another supervisor owns range %d of %s", places.range, places.root)
            return CouldNotRun.exit_code
        supervisor_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = OPEN_FILES if supervisor_hard == resource.RLIM_INFINITY else min(OPEN_FILES, supervisor_hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, supervisor_hard))
        swept = orphan_cleanup.sweep(places, cgroups.open_groups(places.lab_id))
        _log.info("swept %d leftover processes", swept)
        asyncio.run(_serve(places))
    return 0


async def _serve(places: Places) -> None:
    await Supervisor(places).serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
