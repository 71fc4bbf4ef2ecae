"""Adds missing instances to HAProxy, ejects outliers, and replaces hung instances.

The autoscaler calls it once a second with the state that HAProxy reports. A process that dies is restarted by
its `Child`; this module handles instances that run but do not work: stopped, hung, or returning only errors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from system.kernel.policies import MeshKnobs
from system.kernel.resilience import scaling
from system.platform.process.child import Child, Identity
from system.platform.scaling.haproxy_fleet import HaproxyFleet
from system.platform.scaling.haproxy_runtime import Backend, HaproxyRuntime, Server
from system.platform.servers import haproxy

PROBE_EVERY_S = 2.0  # for workers, which no load balancer checks

Record = Callable[[str, str, str], None]
"""(service, what was done, why)"""


@dataclass
class _NoAnswer:
    """The time since when an instance has not responded, and its CPU time at that moment."""

    identity: Identity
    since_s: float
    cpu_ns: int


class OutlierEjection:
    """Checks the health of the instances of one lab, once a second."""

    def __init__(self, record: Record) -> None:
        self.knobs, self.max_in_flight = MeshKnobs(), haproxy.PLACES
        self._record = record
        self._counts: dict[str, tuple[int, int]] = {}
        self._ejected: dict[str, float] = {}
        self._worse_polls: dict[str, int] = {}
        self._no_answer: dict[str, _NoAnswer] = {}
        self._probes: dict[str, asyncio.Task[str]] = {}
        self._probe_results: dict[str, str] = {}
        self._probed_s = float("-inf")

    async def reconcile(self, mesh: HaproxyRuntime, backends: dict[str, Backend], children: dict[str, Child],
                        leaving: set[str]) -> None:
        """Add healthy instances that this HAProxy lacks, delete servers without an instance, and set maxconn.

        `leaving`: instances that are being removed; they are ignored.
        """
        for child in list(children.values()):  # a copy: children are added and removed while this waits for HAProxy
            backend = backends.get(child.node.kind)
            if backend is None or child.node.role != "service" or child.state != "healthy" or child.node.name in leaving:
                continue
            if child.node.name not in backend.servers:
                await mesh.add(child.node.kind, child.node.name, child.ctx.address)
        for kind, backend in backends.items():
            for name, server in list(backend.servers.items()):
                if name not in children and name not in leaving:
                    await mesh.close(kind, name)
                    await mesh.delete(kind, name)
                elif server.max_in_flight != self.max_in_flight and name not in leaving:
                    await mesh.resize(kind, name, self.max_in_flight)

    async def eject(self, fleet: HaproxyFleet, backends: dict[str, Backend], leaving: set[str]) -> None:
        """Eject outliers (`scaling.ejected`); readmit each after `eject_s`.

        `leaving`: instances that are being removed; they are ignored.
        """
        now_s = time.monotonic()
        for kind, backend in backends.items():
            servers = [server for name, server in backend.servers.items() if name not in leaving]
            # An instance that only some HAProxies reach gets fewer requests, and so has fewer errors: it is
            # not comparable.
            comparable = [server for server in servers if server.checks.startswith("UP") and not server.split_view]
            observed = [self._observation(server) for server in comparable]
            out = sum(server.name in self._ejected for server in servers)
            for name in self._confirmed(observed, scaling.ejected(observed, self.knobs, out)):
                await fleet.eject(kind, name)
                self._ejected[name] = now_s + self.knobs.eject_s
                self._record(kind, f"{name} ejected for {self.knobs.eject_s:g} s", "it did worse than its siblings")
            for server in servers:
                if self._ejected.get(server.name, now_s + 1) <= now_s:
                    del self._ejected[server.name]
                    await fleet.readmit(kind, server.name)

    async def reset(self, fleet: HaproxyFleet | None) -> None:
        """Readmit all ejected instances and discard observations: a run starts with all instances."""
        self._worse_polls.clear()
        for name in list(self._ejected):
            del self._ejected[name]
            if fleet is not None:
                await fleet.readmit(name.rpartition("-")[0], name)

    def _confirmed(self, observed: Sequence[scaling.InstanceSample], worse: set[str]) -> list[str]:
        """Return those to eject now: after one failed check, or after BAD_SAMPLES polls with errors."""
        for instance in observed:
            self._worse_polls[instance.name] = self._worse_polls.get(instance.name, 0) + 1 if instance.name in worse else 0
        return [instance.name for instance in observed if instance.name in worse
                and (not instance.checked or self._worse_polls[instance.name] >= scaling.BAD_SAMPLES)]

    def _observation(self, server: Server) -> scaling.InstanceSample:
        now = (server.responses, server.errors)
        before = self._counts.get(server.name, now)
        self._counts[server.name] = now
        responses, errors = max(0, now[0] - before[0]), max(0, now[1] - before[1])
        return scaling.InstanceSample(server.name, responses, errors, server.check_answered, server.in_flight)

    async def replace(self, backends: dict[str, Backend], children: dict[str, Child]) -> None:
        """Kill hung instances; their `auto_heal` restarts them.

        An instance with `auto_heal` off is left as it is.
        """
        silent = {name for backend in backends.values() for name, server in backend.servers.items()
                  if server.down or not server.check_answered}
        checked = {name for backend in backends.values() for name in backend.servers}
        watched = [child for child in children.values() if child.node.role == "service" and child.state == "healthy"]
        silent |= self._failed_probes(child for child in watched if child.node.name not in checked)
        now_s = time.monotonic()
        for child in watched:
            name = child.node.name
            if name not in silent or not child.is_alive() or not child.auto_heal:
                self._no_answer.pop(name, None)
                continue
            known = self._no_answer.get(name)
            if known is None or known.identity != child.identity:
                self._no_answer[name] = _NoAnswer(child.identity, now_s, child.cpu_ns())
                continue
            silent_s = now_s - known.since_s
            cores = (child.cpu_ns() - known.cpu_ns) / 1e9 / silent_s
            if scaling.is_hung(silent_s, cores, self.knobs):
                self._record(child.node.kind, f"{name} replaced", f"no answer for {silent_s:.0f} s, {cores:.2f} cores used")
                self._no_answer.pop(name)
                await child.kill()

    def _failed_probes(self, children: Iterable[Child]) -> set[str]:
        """Return those that failed the last probe of this module.

        Probes run in background tasks, since one may take seconds.
        """
        now_s, failed = time.monotonic(), set()
        due = now_s - self._probed_s >= PROBE_EVERY_S
        for child in children:
            name = child.node.name
            probe = self._probes.get(name)
            if probe is not None and probe.done() and not probe.cancelled() and probe.exception() is None:
                self._probe_results[name] = probe.result()
            if due and (probe is None or probe.done()):
                self._probes[name] = asyncio.ensure_future(child.probe())
            if self._probe_results.get(name, "healthy") != "healthy":
                failed.add(name)
        if due:
            self._probed_s = now_s
        return failed
