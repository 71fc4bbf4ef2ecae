"""The autoscaler: a loop in the supervisor that adds, removes, ejects and replaces instances of services.

    once a second:  HAProxy statistics + CPU of each instance -> `scaling` decides -> add or remove

Add: start the process, wait until it is healthy, then add it to HAProxy. Remove: send it no new requests,
wait until none is in flight, stop the process, delete it from HAProxy. So a change fails no request.

The CPU quota of an instance applies only once it is healthy: runs do not measure the start of an interpreter.
Instances of the blueprint are never removed; of the added ones, the newest is removed first.
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
from system.kernel.resilience.scaling import LoadSample, Scaler
from system.kernel.settings import MESH_PORTS
from system.platform.blueprint import Blueprint, Node
from system.platform.process.child import Child
from system.platform.scaling import haproxy_fleet, outlier_ejection
from system.platform.scaling.haproxy_runtime import Backend, HaproxyRuntime
from system.platform.servers import haproxy

_log = logging.getLogger("tweetlab")

EVERY_S = 1.0
WORKERS = {"fanout": 4, "indexer": 4}  # worker -> maximum: the number of partitions of its topics. Scaled by CPU
MOST = 16        # maximum number of instances of a service; each uses 80 MiB
KEPT_DECISIONS = 500


class ScalingHost(Protocol):
    """The part of the supervisor that the autoscaler uses."""

    children: dict[str, Child]
    blueprint: Blueprint

    def add_child(self, node: Node) -> Child:
        """Create the child of an additional node, without starting it."""

    def refresh(self, child: Child) -> None:
        """Give a stopped child the current environment for its next start."""

    def forget_child(self, name: str) -> None:
        """Remove a stopped child from the lab."""


@dataclass(frozen=True)
class Decision:
    """One change that was made. `at_ms`: wall-clock time, ms since 1970. `what`, `why`: text for people."""

    at_ms: int
    service: str
    what: str
    why: str


@dataclass
class _Service:
    """The state of one scaled service, as of the last poll.

    `cpu`: node -> (monotonic time, CPU time), both in ns. `change`: the change in progress, or the last one.
    `responses`: total that HAProxy reported. `polled_ns`: monotonic; 0 before the first poll.
    """

    scaler: Scaler
    cpu: dict[str, tuple[int, int]] = field(default_factory=dict)
    change: asyncio.Task[None] | None = None
    responses: int = 0
    polled_ns: int = 0


class Autoscaler:
    """Scales the services of one lab. All methods run in the supervisor's event loop.

    `busy`: whether the lab is starting; no poll runs then.
    """

    def __init__(self, host: ScalingHost, busy: Callable[[], bool] = lambda: False) -> None:
        self.host, self._busy = host, busy
        self.knobs = AutoscaleKnobs()
        self.quota: float | None = None
        self.decisions: deque[Decision] = deque(maxlen=KEPT_DECISIONS)
        self._services: dict[str, _Service] = {}
        self._leaving: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._outliers = outlier_ejection.OutlierEjection(self.record)
        self.polled_s = time.monotonic()
        self.max_gateways = policies.LimitKnobs().max_gateways
        self.spares: dict[str, list[Child]] = {}  # of the current rolling restart, and of earlier failed ones

    async def run(self) -> None:
        """Poll once a second until cancelled. Every error is logged, and polling continues."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._poll()
                self.polled_s = time.monotonic()
            except LabError as problem:
                _log.warning("autoscaler: %s", problem)
            except Exception:  # no other component ejects or replaces instances, so this loop must continue
                _log.exception("autoscaler: poll failed")

    async def _poll(self) -> None:
        if self._busy() or not any(child.node.role == "service" for child in self.host.children.values()):
            return
        fleet = haproxy_fleet.of(self.host.children)
        snapshots = await self._snapshots(fleet)
        backends = haproxy_fleet.merged(rows for _, rows in snapshots)
        if fleet and snapshots:
            for runtime, rows in snapshots:
                await self._outliers.reconcile(runtime, rows, self.host.children, self._leaving)
            await self._outliers.eject(fleet, backends, self._leaving)
        await self._outliers.replace(backends, self.host.children)
        for kind in self.kinds() if self.knobs.max else ():
            self._scale_one(kind, backends.get(kind, Backend({})))

    @staticmethod
    async def _snapshots(fleet: haproxy_fleet.HaproxyFleet | None) -> list[tuple[HaproxyRuntime, haproxy_fleet.Backends]]:
        try:
            return await fleet.snapshots() if fleet else []
        except CouldNotRun:
            return []

    def _scale_one(self, kind: str, backend: Backend) -> None:
        service = self._services.setdefault(kind, _Service(Scaler(self._limits(kind))))
        load = self._measure(kind, service, backend)
        if service.change is not None and not service.change.done():
            return
        target = service.scaler.look(load, time.monotonic())
        wanted = scaling.change(target.wanted, load.ready, len(self.instances(kind)))
        if wanted is not None:
            service.change = asyncio.ensure_future(self._change(kind, wanted, target.why))

    def _measure(self, kind: str, service: _Service, backend: Backend) -> LoadSample:
        """Return the load of the instances of `kind` since the last poll."""
        now_ns, shares = time.monotonic_ns(), []
        ready = [child for child in self.instances(kind) if child.state == "healthy" and child.node.name not in self._leaving]
        for child in ready:
            used_ns = child.cpu_ns()
            since_ns, before_ns = service.cpu.get(child.node.name, (now_ns, used_ns))
            service.cpu[child.node.name] = (now_ns, used_ns)
            if now_ns > since_ns:
                shares.append((used_ns - before_ns) / (now_ns - since_ns) / (self.quota or 1.0))
        responses = sum(server.responses for server in backend.servers.values())
        rate_per_s = max(0, responses - service.responses) / max(1e-9, (now_ns - service.polled_ns) / 1e9)
        is_first, service.responses, service.polled_ns = not service.polled_ns, responses, now_ns
        queued = backend.queued + sum(server.queued for server in backend.servers.values())
        wait_s = 0.0 if is_first else queued / max(1.0, rate_per_s)  # the first poll has no rate to compute a wait from
        in_flight = sum(server.in_flight for server in backend.servers.values())
        instances = max(1, len(ready))
        return LoadSample(len(ready), sum(shares) / max(1, len(shares)), in_flight / instances, wait_s)

    async def _change(self, kind: str, wanted: int, why: str) -> None:
        try:
            await self.scale(kind, wanted, why)
        except LabError as problem:
            self.record(kind, f"not scaled to {wanted}", problem.detail.splitlines()[0])
        finally:
            self._services[kind].scaler.changed(time.monotonic())

    def instances(self, kind: str) -> list[Child]:
        """Return the instances of a service, sorted by number."""
        children = [child for child in self.host.children.values() if child.node.kind == kind and child.node.role == "service"]
        return sorted(children, key=lambda child: child.node.instance)

    def kinds(self) -> list[str]:
        """Return the services that can be scaled."""
        scalable = {"gateway", *MESH_PORTS, *WORKERS}
        kinds = dict.fromkeys(node.kind for node in self.host.blueprint.of_role("service"))
        return [kind for kind in kinds if kind in scalable]

    def _limits(self, kind: str) -> AutoscaleKnobs:
        least = max(self.knobs.min, len(self.host.blueprint.of_kind(kind)))
        most = max(least, min(self.knobs.max, self._maximum(kind)))
        return dataclasses.replace(self.knobs, min=least, max=most)

    async def scale(self, kind: str, wanted: int, why: str = "manual") -> dict[str, Any]:
        """Scale a service to `wanted` instances. `why`: reason, for the list of decisions.

        Raises WrongInput if `wanted` is out of bounds, CouldNotRun if an instance does not start.
        """
        self._check_bounds(kind, wanted)
        async with self.exclusive(kind):
            before, began_s = len(self.instances(kind)), time.monotonic()
            if wanted > before:
                await asyncio.gather(*(self.add(kind, number) for number in self._free_numbers(kind, wanted - before)))
            for child in self._to_remove(kind, before - wanted):
                await self.remove(child)
            if wanted != before:
                self.record(kind, f"{before} -> {wanted} in {time.monotonic() - began_s:.1f} s", why)
        return {"service": kind, "before": before, "instances": wanted}

    def _to_remove(self, kind: str, count: int) -> list[Child]:
        """Return `count` added instances to remove: unhealthy ones first, then the newest."""
        kept = {node.name for node in self.host.blueprint.of_kind(kind)}
        added = [child for child in self.instances(kind) if child.node.name not in kept]
        return sorted(added, key=lambda child: (child.state == "healthy", -child.node.instance))[:max(0, count)]

    def exclusive(self, kind: str) -> asyncio.Lock:
        """Return the lock that is held while instances of `kind` are added or removed."""
        return self._locks.setdefault(kind, asyncio.Lock())

    @contextlib.contextmanager
    def leaving(self, name: str) -> Iterator[None]:
        """Exclude an instance from reconciliation and ejection while it is being removed."""
        self._leaving.add(name)
        try:
            yield
        finally:
            self._leaving.discard(name)

    def _check_bounds(self, kind: str, wanted: int) -> None:
        if kind not in self.kinds():
            raise WrongInput(f"The service {kind!r} cannot be scaled; {', '.join(self.kinds()) or 'none'} can.")
        least, most = len(self.host.blueprint.of_kind(kind)), self._maximum(kind)
        if not least <= wanted <= most:
            why = ", the number that `policies.limits.max_gateways` shares the limits among" if kind == "gateway" else ""
            raise WrongInput(f"{kind} cannot have {wanted} instances; it may have {least} (its blueprint's) to {most}{why}.")

    def _maximum(self, kind: str) -> int:
        """Return the maximum number of instances of `kind`.

        For gateways it is `max_gateways`: more of them would admit more than the rate limits while the Redis
        of the limits is down.
        """
        least = len(self.host.blueprint.of_kind(kind))
        return max(least, self.max_gateways) if kind == "gateway" else WORKERS.get(kind, MOST)

    def _free_numbers(self, kind: str, count: int) -> list[int]:
        taken = {child.node.instance for child in self.instances(kind)}
        return [number for number in range(1, MOST + len(taken) + 1) if number not in taken][:count]

    def _emptiest_zone(self, kind: str) -> int:
        """Return the zone with the fewest instances of `kind`, the first of a tie; 0 without zones."""
        zones = [child.node.zone for child in self.instances(kind)]
        return min((node.zone for node in self.host.blueprint.of_kind(kind)), key=zones.count)

    async def add(self, kind: str, number: int | None = None) -> Child:
        """Start an additional instance and add it to HAProxy. The caller holds `exclusive`.

        `number`: its instance number; None is the lowest free one.
        """
        number = self._free_numbers(kind, 1)[0] if number is None else number
        zone = self._emptiest_zone(kind)
        # The new node copies the zone and the region of this one.
        sibling = next(node for node in self.host.blueprint.of_kind(kind) if node.zone == zone)
        node = dataclasses.replace(sibling, name=f"{kind}-{number}", instance=number)
        child = self.host.add_child(node)
        child.quota_cores = self.quota
        try:
            await child.start()
            fleet = haproxy_fleet.of(self.host.children)
            if fleet and kind in await haproxy_fleet.backends_or_none(fleet):
                await fleet.add(kind, node.name, child.ctx.address)
        except BaseException:
            await child.stop(kill=True)
            self.host.forget_child(node.name)
            raise
        return child

    async def remove(self, child: Child) -> None:
        """Drain an instance, stop it and remove it from the lab. The caller holds `exclusive`."""
        kind, name = child.node.kind, child.node.name
        with self.leaving(name):
            fleet = haproxy_fleet.of(self.host.children)
            known = fleet is not None and name in (await haproxy_fleet.backends_or_none(fleet)).get(kind, Backend({})).servers
            if fleet and known:
                if not await fleet.drain(kind, name):
                    self.record(kind, f"{name} stops with requests in flight", "they did not end in time")
                await fleet.close(kind, name)
            await child.stop()
            self.host.forget_child(name)
            if fleet and known:
                await fleet.delete(kind, name)

    async def configure(self, wanted: Policies, quota: float | None) -> None:
        """Apply new knobs. `quota`: CPU cores per instance, None for those of the blueprint.

        If autoscaling is on, or was on before, every service is first scaled to its minimum number of
        instances. A run calls this before its load starts. Earlier observations are discarded, so no instance
        is ejected because of a previous run.
        """
        with contextlib.suppress(CouldNotRun):  # an HAProxy that does not respond has lost its ejections anyway
            await self._outliers.reset(haproxy_fleet.of(self.host.children))
        was_on, scale = bool(self.knobs.max), wanted.autoscale
        self.knobs, self._outliers.knobs, self.quota = dataclasses.replace(scale, max=0), wanted.mesh, quota
        self.max_gateways = wanted.limits.max_gateways
        self._outliers.max_in_flight = haproxy.MAX_IN_FLIGHT_QUEUED if scale.max and scale.queue_s else haproxy.PLACES
        pending = [service.change for service in self._services.values() if service.change is not None]
        await asyncio.gather(*pending, return_exceptions=True)
        self._services.clear()
        for child in self.host.children.values():
            if child.node.role == "service":
                await child.limit(quota if quota is not None else child.node.running.cpu_quota_cores)
        if was_on or scale.max:
            least = scale.min if scale.max else 1
            why = "autoscaling on" if scale.max else "autoscaling off"
            for kind in self.kinds():
                await self.scale(kind, max(least, len(self.host.blueprint.of_kind(kind))), why)
        elif len(self.instances("gateway")) > self._maximum("gateway"):
            await self.scale("gateway", self._maximum("gateway"), "limits.max_gateways")
        self.knobs = scale

    def state(self) -> dict[str, Any]:
        """Return healthy instances per service, quota, on or off, age of the last poll, decisions."""
        counts = {kind: sum(child.state == "healthy" for child in self.instances(kind)) for kind in self.kinds()}
        return {"instances": counts, "quota": self.quota, "on": bool(self.knobs.max),
                "looked_s": round(time.monotonic() - self.polled_s, 1),
                "decisions": [dataclasses.asdict(decision) for decision in self.decisions]}

    def record(self, service: str, what: str, why: str) -> None:
        """Add a change to `decisions` and log it."""
        self.decisions.append(Decision(int(time.time() * 1e3), service, what, why))
        _log.info("autoscaler: %s %s: %s", service, what, why)
