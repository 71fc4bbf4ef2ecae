"""Keeps the mesh true and the services answering: applies again what HAProxy forgot, ejects, and replaces what hangs.

Called once a second by the autoscaler (`autoscale`) with what HAProxy says. A process that dies is started again by its
`Child`; here is what a death does not show: an instance that is stopped, or stuck, or answers errors alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from system.kernel.policies import MeshKnobs
from system.kernel.resilience import scaling
from system.platform.process.children import Child
from system.platform.scaling.haproxy_fleet import HaproxyFleet
from system.platform.scaling.haproxy_runtime import Backend, Mesh, Server
from system.platform.servers import haproxy

PROBE_EVERY_S = 2.0  # of what no load balancer checks: the workers

Tell = Callable[[str, str, str], None]
"""(service, what was done, why)"""


@dataclass
class _Silence:
    """Since when an instance has not answered, and the CPU time it had used by then."""

    pid: int
    since_s: float
    cpu_ns: int


class Healer:
    """What is wrong with the instances of one lab, second by second."""

    def __init__(self, tell: Tell) -> None:
        self.knobs, self.max_in_flight = MeshKnobs(), haproxy.PLACES
        self._tell = tell
        self._counts: dict[str, tuple[int, int]] = {}
        self._ejected: dict[str, float] = {}
        self._ill: dict[str, int] = {}
        self._silent: dict[str, _Silence] = {}
        self._probes: dict[str, asyncio.Task[str]] = {}
        self._answers: dict[str, str] = {}
        self._probed_s = float("-inf")

    async def reconcile(self, mesh: Mesh, backends: dict[str, Backend], children: dict[str, Child], leaving: set[str]) -> None:
        """Add instances that are well and unknown to this HAProxy; take out those that nobody owns; give each its places.

        `leaving`: are being removed.
        """
        for child in list(children.values()):  # others come and go while this waits for HAProxy
            backend = backends.get(child.node.kind)
            if backend is None or child.node.role != "service" or child.state != "healthy" or child.node.name in leaving:
                continue
            if child.node.name not in backend.servers:
                await mesh.add(child.node.kind, child.node.name, child.ctx.address)
        for kind, backend in backends.items():
            for name, server in list(backend.servers.items()):
                if name not in children and name not in leaving:
                    await mesh.close(kind, name)
                    await mesh.forget(kind, name)
                elif server.places != self.max_in_flight and name not in leaving:
                    await mesh.resize(kind, name, self.max_in_flight)

    async def eject(self, mesh: HaproxyFleet, backends: dict[str, Backend], leaving: set[str]) -> None:
        """Take out instances that do clearly worse than their siblings; take them in again when their time is over.

        `leaving`: are being removed, and stay out.
        """
        now_s = time.monotonic()
        for kind, backend in backends.items():
            here = [server for name, server in backend.servers.items() if name not in leaving]
            # One that only some can reach serves fewer, and so fails fewer: no sibling to be worse than.
            standing = [server for server in here if server.checks.startswith("UP") and not server.apart]
            seen = [self._seen(server) for server in standing]
            out = sum(server.name in self._ejected for server in here)
            for name in self._lasting(seen, scaling.ejected(seen, self.knobs, out)):
                await mesh.eject(kind, name)
                self._ejected[name] = now_s + self.knobs.eject_s
                self._tell(kind, f"{name} ejected for {self.knobs.eject_s:g} s", "it did worse than its siblings")
            for server in here:
                if self._ejected.get(server.name, now_s + 1) <= now_s:
                    del self._ejected[server.name]
                    await mesh.readmit(kind, server.name)

    async def begin(self, mesh: HaproxyFleet | None) -> None:
        """Take every ejected instance in again and forget what was seen so far: a run starts with all of
        them."""
        self._ill.clear()
        for name in list(self._ejected):
            del self._ejected[name]
            if mesh is not None:
                await mesh.readmit(name.rpartition("-")[0], name)

    def _lasting(self, seen: Sequence[scaling.Seen], worse: set[str]) -> list[str]:
        """Return those to eject now: the silent at once, the ill after a few looks in a row."""
        for each in seen:
            self._ill[each.name] = self._ill.get(each.name, 0) + 1 if each.name in worse else 0
        bad = [each for each in seen if each.name in worse]
        return [each.name for each in bad if not each.checked or self._ill[each.name] >= scaling.ILL_LOOKS]

    def _seen(self, server: Server) -> scaling.Seen:
        now = (server.answers, server.errors)
        before = self._counts.get(server.name, now)
        self._counts[server.name] = now
        answers, errors = max(0, now[0] - before[0]), max(0, now[1] - before[1])
        return scaling.Seen(server.name, answers, errors, server.passed, server.inside)

    def replace(self, backends: dict[str, Backend], children: dict[str, Child]) -> None:
        """Kill instances that hang; auto-heal starts them again. One whose healing is switched off is left alone."""
        silent = {name for backend in backends.values() for name, server in backend.servers.items()
                  if server.down or not server.passed}
        checked = {name for backend in backends.values() for name in backend.servers}
        watched = [child for child in children.values() if child.node.role == "service" and child.state == "healthy"]
        silent |= self._unanswered(child for child in watched if child.node.name not in checked)
        now_s = time.monotonic()
        for child in watched:
            name = child.node.name
            if name not in silent or not child.is_alive() or not child.auto_heal:
                self._silent.pop(name, None)
                continue
            known = self._silent.get(name)
            if known is None or known.pid != child.pid:
                self._silent[name] = _Silence(child.pid, now_s, child.cpu_ns())
                continue
            silent_s = now_s - known.since_s
            cores = (child.cpu_ns() - known.cpu_ns) / 1e9 / silent_s
            if scaling.is_hung(silent_s, cores, self.knobs):
                self._tell(child.node.kind, f"{name} replaced", f"no answer for {silent_s:.0f} s, {cores:.2f} cores used")
                self._silent.pop(name)
                child.kill()

    def _unanswered(self, children: Iterable[Child]) -> set[str]:
        """Return those that did not answer our own last probe; a probe runs beside the loop, it may take seconds."""
        now_s, silent = time.monotonic(), set()
        again = now_s - self._probed_s >= PROBE_EVERY_S
        for child in children:
            name = child.node.name
            probe = self._probes.get(name)
            if probe is not None and probe.done() and not probe.cancelled() and probe.exception() is None:
                self._answers[name] = probe.result()
            if again and (probe is None or probe.done()):
                self._probes[name] = asyncio.ensure_future(child.probe())
            if self._answers.get(name, "healthy") != "healthy":
                silent.add(name)
        if again:
            self._probed_s = now_s
        return silent
