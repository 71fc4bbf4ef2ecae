"""The autoscaler: a loop inside the supervisor that adds, removes, ejects and replaces service instances.

    once a second:  what HAProxy says + CPU of each instance -> kernel.scaling decides -> instances come and go

In: start the process, wait until it is well, then let HAProxy send it requests. Out: no new requests, wait until none is
inside, stop the process, forget it. So no request fails for the change itself. A start is not throttled: the
quota of an instance holds from the moment it is well, because the start of an interpreter is not what is measured.
Instances of the blueprint stay; those that were added last go first.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from system.kernel import policies
from system.kernel.errors import CouldNotRun, LabError, WrongInput
from system.kernel.policies import AutoscaleKnobs, Policies
from system.kernel.resilience import scaling
from system.kernel.resilience.scaling import Look, Scaler
from system.kernel.settings import MESH_PORTS
from system.platform.blueprint import Blueprint, Node
from system.platform.process.children import Child
from system.platform.scaling import haproxy_fleet, outlier_ejection
from system.platform.scaling.haproxy_runtime import Backend, Mesh
from system.platform.servers import haproxy

_log = logging.getLogger("tweetlab")

EVERY_S = 1.0
WORKERS = {"fanout": 4, "indexer": 4}  # scaled by CPU; as many as their topics have partitions
MOST = 16        # instances of one service by hand; 80 MiB each
KEPT = 500       # decisions remembered


class ScalingHost(Protocol):
    """What the autoscaler needs of the supervisor."""

    children: dict[str, Child]
    blueprint: Blueprint

    def adopt(self, node: Node) -> Child:
        """Return the child of a further node, not started."""

    def refresh(self, child: Child) -> None:
        """Let a stopped child start with the environment of now."""

    def release(self, name: str) -> None:
        """Forget a stopped child."""


@dataclass(frozen=True)
class Decision:
    """One change that was made. `at_ms`: wall time. `what`, `why`: for people."""

    at_ms: int
    service: str
    what: str
    why: str


@dataclass
class _Service:
    """The state of one scaled service. `cpu`: node -> (when, CPU time) at the last look."""

    scaler: Scaler
    cpu: dict[str, tuple[int, int]] = field(default_factory=dict)
    change: asyncio.Task[None] | None = None
    answers: int = 0
    seen_ns: int = 0


class Autoscaler:
    """The instances of one lab. All methods belong to the supervisor's event loop."""

    def __init__(self, house: ScalingHost, busy: Callable[[], bool] = lambda: False) -> None:
        self.house, self._busy = house, busy
        self.knobs = AutoscaleKnobs()
        self.quota: float | None = None
        self.decisions: deque[Decision] = deque(maxlen=KEPT)
        self._services: dict[str, _Service] = {}
        self._leaving: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._healer = outlier_ejection.Healer(self.tell)
        self.looked_s = time.monotonic()
        self.max_gateways = policies.LimitKnobs().max_gateways
        self.spares: dict[str, list[Child]] = {}  # of the renewal under way, and of those that broke off

    async def run(self) -> None:
        """Look once a second, until cancelled. Whatever goes wrong in one look is told in the supervisor's log."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._look()
                self.looked_s = time.monotonic()
            except LabError as problem:
                _log.warning("autoscaler: %s", problem)
            except Exception:  # nobody else heals: it goes on whatever it met
                _log.exception("autoscaler: a look broke off")

    async def _look(self) -> None:
        if self._busy() or not any(child.node.role == "service" for child in self.house.children.values()):
            return
        mesh = haproxy_fleet.of(self.house.children)
        looks = await self._looks(mesh)
        backends = haproxy_fleet.summed(seen for _, seen in looks)
        if mesh and looks:
            for one, seen in looks:
                await self._healer.reconcile(one, seen, self.house.children, self._leaving)
            await self._healer.eject(mesh, backends, self._leaving)
        self._healer.replace(backends, self.house.children)
        for kind in self.kinds() if self.knobs.max else ():
            self._scale_one(kind, backends.get(kind, Backend({})))

    @staticmethod
    async def _looks(mesh: haproxy_fleet.HaproxyFleet | None) -> list[tuple[Mesh, haproxy_fleet.Seen]]:
        try:
            return await mesh.looks() if mesh else []
        except CouldNotRun:
            return []

    def _scale_one(self, kind: str, backend: Backend) -> None:
        service = self._services.setdefault(kind, _Service(Scaler(self._limits(kind))))
        look = self._measure(kind, service, backend)
        if service.change is not None and not service.change.done():
            return
        wish = service.scaler.look(look, time.monotonic())
        wanted = scaling.change(wish.wanted, look.ready, len(self.instances(kind)))
        if wanted is not None:
            service.change = asyncio.ensure_future(self._change(kind, wanted, wish.why))

    def _measure(self, kind: str, service: _Service, backend: Backend) -> Look:
        """Return what the instances of `kind` did since the last look."""
        now_ns, shares = time.monotonic_ns(), []
        ready = [child for child in self.instances(kind) if child.state == "healthy" and child.node.name not in self._leaving]
        for child in ready:
            used_ns = child.cpu_ns()
            since_ns, before_ns = service.cpu.get(child.node.name, (now_ns, used_ns))
            service.cpu[child.node.name] = (now_ns, used_ns)
            if now_ns > since_ns:
                shares.append((used_ns - before_ns) / (now_ns - since_ns) / (self.quota or 1.0))
        answers = sum(server.answers for server in backend.servers.values())
        rate_per_s = max(0, answers - service.answers) / max(1e-9, (now_ns - service.seen_ns) / 1e9)
        is_first, service.answers, service.seen_ns = not service.seen_ns, answers, now_ns
        waiting = backend.waiting + sum(server.waiting for server in backend.servers.values())
        wait_s = 0.0 if is_first else waiting / max(1.0, rate_per_s)  # at first there is no rate to tell it by
        inside = sum(server.inside for server in backend.servers.values())
        many = max(1, len(ready))
        return Look(len(ready), sum(shares) / max(1, len(shares)), inside / many, wait_s)

    async def _change(self, kind: str, wanted: int, why: str) -> None:
        try:
            await self.scale(kind, wanted, why)
        except LabError as problem:
            self.tell(kind, f"not scaled to {wanted}", problem.detail.splitlines()[0])
        finally:
            self._services[kind].scaler.changed(time.monotonic())

    def instances(self, kind: str) -> list[Child]:
        """Return the instances of a service, by number."""
        found = [child for child in self.house.children.values() if child.node.kind == kind and child.node.role == "service"]
        return sorted(found, key=lambda child: child.node.instance)

    def kinds(self) -> list[str]:
        """Return the services that can be scaled."""
        known = {"gateway", *MESH_PORTS, *WORKERS}
        return [kind for kind in dict.fromkeys(node.kind for node in self.house.blueprint.of_role("service")) if kind in known]

    def _limits(self, kind: str) -> AutoscaleKnobs:
        least = max(self.knobs.min, len(self.house.blueprint.of_kind(kind)))
        most = max(least, min(self.knobs.max, self._most(kind)))
        return dataclasses.replace(self.knobs, min=least, max=most)

    async def scale(self, kind: str, wanted: int, why: str = "by hand") -> dict[str, Any]:
        """Bring a service to `wanted` instances. Raises WrongInput outside its bounds, CouldNotRun where one does not start."""
        self._check(kind, wanted)
        async with self.alone(kind):
            before, began_s = len(self.instances(kind)), time.monotonic()
            if wanted > before:
                await asyncio.gather(*(self.add(kind, number) for number in self._free(kind, wanted - before)))
            for child in self._to_go(kind, before - wanted):
                await self.remove(child)
            if wanted != before:
                self.tell(kind, f"{before} -> {wanted} in {time.monotonic() - began_s:.1f} s", why)
        return {"service": kind, "before": before, "instances": wanted}

    def _to_go(self, kind: str, many: int) -> list[Child]:
        """Return who leaves: of those that were added, first who does not serve, then the youngest."""
        kept = {node.name for node in self.house.blueprint.of_kind(kind)}
        added = [child for child in self.instances(kind) if child.node.name not in kept]
        return sorted(added, key=lambda child: (child.state == "healthy", -child.node.instance))[:max(0, many)]

    def alone(self, kind: str) -> asyncio.Lock:
        """Return what is held while instances of `kind` come and go."""
        return self._locks.setdefault(kind, asyncio.Lock())

    @contextlib.contextmanager
    def leaving(self, name: str) -> Iterator[None]:
        """Leave an instance out of what heals the mesh: somebody takes it out now."""
        self._leaving.add(name)
        try:
            yield
        finally:
            self._leaving.discard(name)

    def _check(self, kind: str, wanted: int) -> None:
        if kind not in self.kinds():
            raise WrongInput(f"The service {kind!r} cannot be scaled; {', '.join(self.kinds()) or 'none'} can.")
        least, most = len(self.house.blueprint.of_kind(kind)), self._most(kind)
        if not least <= wanted <= most:
            why = ", as many as `policies.limits.max_gateways` shares the limits among" if kind == "gateway" else ""
            raise WrongInput(f"{kind} was to have {wanted} instances; it may have {least} (its blueprint's) to {most}{why}.")

    def _most(self, kind: str) -> int:
        """Return how many instances of `kind` may stand: more gateways would admit more than the limits while those are away."""
        least = len(self.house.blueprint.of_kind(kind))
        return max(least, self.max_gateways) if kind == "gateway" else WORKERS.get(kind, MOST)

    def _free(self, kind: str, many: int) -> list[int]:
        taken = {child.node.instance for child in self.instances(kind)}
        return [number for number in range(1, MOST + len(taken) + 1) if number not in taken][:many]

    def _emptiest(self, kind: str) -> int:
        """Return the zone with the fewest instances of `kind`, the first of them; 0 where there are no zones."""
        here = [child.node.zone for child in self.instances(kind)]
        return min((node.zone for node in self.house.blueprint.of_kind(kind)), key=here.count)

    async def add(self, kind: str, number: int | None = None) -> Child:
        """Start a further instance, by default with the first free number, and let it take requests. The caller is `alone`."""
        number = self._free(kind, 1)[0] if number is None else number
        zone = self._emptiest(kind)
        sibling = next(node for node in self.house.blueprint.of_kind(kind) if node.zone == zone)  # in its region, too
        node = dataclasses.replace(sibling, name=f"{kind}-{number}", instance=number)
        child = self.house.adopt(node)
        child.quota_cores = self.quota
        try:
            await child.start()
            mesh = haproxy_fleet.of(self.house.children)
            if mesh and kind in await haproxy_fleet.seen_by(mesh):
                await mesh.add(kind, node.name, child.ctx.address)
        except BaseException:
            await child.stop(kill=True)
            self.house.release(node.name)
            raise
        return child

    async def remove(self, child: Child) -> None:
        """Drain an instance, stop it and forget it. The caller is `alone`."""
        kind, name = child.node.kind, child.node.name
        with self.leaving(name):
            mesh = haproxy_fleet.of(self.house.children)
            known = mesh is not None and name in (await haproxy_fleet.seen_by(mesh)).get(kind, Backend({})).servers
            if mesh and known:
                if not await mesh.drain(kind, name):
                    self.tell(kind, f"{name} ends with requests inside", "they did not end in time")
                await mesh.close(kind, name)
            await child.stop()
            self.house.release(name)
            if mesh and known:
                await mesh.forget(kind, name)

    async def configure(self, told: Policies, quota: float | None) -> None:
        """Take new knobs. Every service begins at its least number of instances where scaling goes on or off.

        A run calls it before its load: no instance is out for what it did in the run before.
        """
        with contextlib.suppress(CouldNotRun):  # an HAProxy that does not answer has forgotten the ejections
            await self._healer.begin(haproxy_fleet.of(self.house.children))
        was_on, scale = bool(self.knobs.max), told.autoscale
        self.knobs, self._healer.knobs, self.quota = dataclasses.replace(scale, max=0), told.mesh, quota
        self.max_gateways = told.limits.max_gateways
        self._healer.max_in_flight = haproxy.QUEUED_PLACES if scale.max and scale.queue_s else haproxy.PLACES
        pending = [service.change for service in self._services.values() if service.change is not None]
        await asyncio.gather(*pending, return_exceptions=True)
        self._services.clear()
        for child in self.house.children.values():
            if child.node.role == "service":
                child.limit(quota if quota is not None else child.node.running.cpu_quota_cores)
        if was_on or scale.max:
            least = scale.min if scale.max else 1
            for kind in self.kinds():
                await self.scale(kind, max(least, len(self.house.blueprint.of_kind(kind))), "begin" if scale.max else "end")
        elif len(self.instances("gateway")) > self._most("gateway"):
            await self.scale("gateway", self._most("gateway"), "limits.max_gateways")
        self.knobs = scale

    def told(self) -> dict[str, Any]:
        """Return the instances of each service, the knobs in force, the age of the last whole look and the last decisions."""
        counts = {kind: sum(child.state == "healthy" for child in self.instances(kind)) for kind in self.kinds()}
        return {"instances": counts, "quota": self.quota, "on": bool(self.knobs.max),
                "looked_s": round(time.monotonic() - self.looked_s, 1),
                "decisions": [dataclasses.asdict(decision) for decision in self.decisions]}

    def tell(self, service: str, what: str, why: str) -> None:
        """Remember a change, and log it."""
        self.decisions.append(Decision(int(time.time() * 1e3), service, what, why))
        _log.info("autoscaler: %s %s: %s", service, what, why)
