"""The simulated autoscaler: once a second it samples every service and adds or removes instances.

The decisions are the system's own (`kernel/resilience/scaling.py`): the number of instances, and which to
eject. This module only measures their inputs and applies their effects, as scaling/autoscaler.py and
outlier_ejection.py do on real processes:

    added      the process starts, using CPU without a quota; once it is healthy, the mesh sends it requests
    removed    no new requests; it stops when none is in flight (or after `DRAIN_S`)

Workers keep one instance each here (the model has no partitions to assign). A hung instance is not replaced.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

from sim import services
from sim.bandwidth import Bandwidth
from sim.clock import call_after
from sim.engine import Engine
from sim.fleet import Fleet, Instance
from sim.jobs import Context, Job, Unit
from sim.program import Cpu
from sim.resources import Process, Wait
from sim.streams import NS, constant, ns
from system.kernel.policies import AutoscaleKnobs, Policies
from system.kernel.resilience import scaling

EVERY_S, MOST = 1.0, 16  # as in system/platform/scaling/autoscaler.py, which sim may not import; a test keeps them equal
DRAIN_S, LOOK_S = 10.0, 0.1  # as in system/platform/scaling/haproxy_runtime.py
STOP_S = 0.1             # from the last request in flight to the exit of the process: 0.2 s with one check, run of 2026-11-23
START_CPU_S = 0.55       # interpreter, imports, connections: 0.5 to 0.6 s of CPU on the 2-core development machine
START_WAIT_S = 0.15      # health checked every 0.1 s, then the mesh updated; 0.7 s in total on an idle machine, same run
CHECK_TIMEOUT_S = 3.0    # of a health check: system/platform/servers/haproxy.py
FIXED = ("fanout", "indexer")  # scaled in the system, not here


@dataclasses.dataclass
class _Scaled:
    """The state of one service. `used_s`: instance -> CPU at the last sample.

    `counters`: instance -> (responses, errors) at that time.
    """

    fleet: Fleet
    scaler: scaling.Scaler
    used_s: dict[str, float] = dataclasses.field(default_factory=dict)
    counters: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    bad_samples: dict[str, int] = dataclasses.field(default_factory=dict)
    ejected_s: dict[str, float] = dataclasses.field(default_factory=dict)
    leaving: set[str] = dataclasses.field(default_factory=set)
    starting: set[str] = dataclasses.field(default_factory=set)
    changing: bool = False
    answers: int = 0

    def ready(self) -> list[Instance]:
        """Return the healthy instances that are neither starting nor leaving."""
        excluded = self.leaving | self.starting
        return [instance for instance in self.fleet.instances if instance.name not in excluded and not instance.node.down]


class Autoscaler:
    """Quotas and instances of one replication. `background`: node -> cores that it uses independent of load.

    `initial`: instances of each service at the start. `counts`: (second, service, instances) per sample.
    `decisions`: (second, service, change, reason), in the system's wording.
    """

    def __init__(self, engine: Engine, fleets: dict[str, Fleet], policies: Policies, quota: float | None,
                 background: dict[str, float], phase: Callable[[], float], initial: int = 1) -> None:
        self._engine, self._knobs, self._mesh = engine, policies.autoscale, policies.mesh
        self._quota, self._background, self._phase = quota, background, phase
        self.start_process = self._start_here  # (name, what to call when it is healthy); the compiled engine has its own
        self.counts: list[tuple[float, str, int]] = []
        self.decisions: list[tuple[float, str, str, str]] = []
        most = policies.limits.max_gateways
        self._services = {fleet.kind: _Scaled(fleet, scaling.Scaler(self._limits(fleet.kind, most))) for fleet in fleets.values()}
        for name in services.QUOTED:
            self._limit(engine.bindings.nodes[name])
        for service in self._services.values():
            for _ in range(initial - 1):
                self._admit(service, service.fleet.add())
        if self._knobs.max:
            self._start_sampling()

    @property
    def _now_s(self) -> float:
        return float(self._engine.env.now / NS)

    def _after(self, delay_s: float, function: Callable[[Any], None]) -> None:
        call_after(self._engine.env, ns(delay_s), function)

    def _limits(self, kind: str, max_gateways: int) -> AutoscaleKnobs:
        least, most = max(self._knobs.min, 1), max_gateways if kind == "gateway" else MOST
        return dataclasses.replace(self._knobs, min=least, max=max(least, min(self._knobs.max, most)))

    def _limit(self, node: Process) -> None:
        if self._quota is not None:
            cores = max(self._quota - self._background_of(node.name), 0.1 * self._quota)
            node.quota = Bandwidth(self._engine.env, self._engine.host, cores, self._phase())

    def _background_of(self, name: str) -> float:
        return self._background.get(f"{name.rpartition('-')[0]}-1", 0.0)

    def _start_sampling(self) -> None:
        for service in self._services.values():
            for _ in range(self._knobs.min - len(service.fleet.instances)):
                self._admit(service, service.fleet.add())
        self._after(0.0, self._sample)

    # ---- sampling ------------------------------------------------------------------------------------

    def _sample(self, _event: Any) -> None:
        now_s = self._now_s
        self._after(EVERY_S, self._sample)
        for kind, service in self._services.items():
            self.counts.append((now_s, kind, len(service.ready())))
            self._eject(kind, service, now_s)
            load = self._measure(service)
            if now_s > 0.0 and not service.changing:
                desired = service.scaler.look(load, now_s)
                if scaling.change(desired.wanted, load.ready, len(service.fleet.instances)) is not None:
                    self._change(kind, service, desired)
        self.counts += [(now_s, kind, 1) for kind in FIXED]

    def _measure(self, service: _Scaled) -> scaling.LoadSample:
        """Return the load of a service since the last sample."""
        shares, ready = [], service.ready()
        for instance in ready:
            before_s, used_s = service.used_s.get(instance.name), instance.node.demand_ns / NS
            service.used_s[instance.name] = used_s
            if before_s is not None:
                shares.append(((used_s - before_s) / EVERY_S + self._background_of(instance.name)) / (self._quota or 1.0))
        instances = service.fleet.instances
        answers = sum(instance.seats.answers for instance in instances)
        rate_per_s, service.answers = max(0, answers - service.answers) / EVERY_S, answers
        inside = sum(instance.seats.inside for instance in instances)
        waiting = sum(len(instance.seats.queue) for instance in instances)
        return scaling.LoadSample(len(ready), sum(shares) / max(1, len(shares)), inside / max(1, len(ready)),
                            waiting / max(1.0, rate_per_s))

    def _eject(self, kind: str, service: _Scaled, now_s: float) -> None:
        admitted = [instance for instance in service.ready() if instance.open]
        samples = [self._sample_instance(service, instance, now_s) for instance in admitted]
        outliers = scaling.ejected(samples, self._mesh, sum(instance.name in service.ejected_s for instance in service.ready()))
        for instance, sample in zip(admitted, samples, strict=True):
            service.bad_samples[instance.name] = service.bad_samples.get(instance.name, 0) + 1 if instance.name in outliers else 0
            lasting = service.bad_samples[instance.name] >= scaling.BAD_SAMPLES
            if instance.name in outliers and (not sample.checked or lasting):
                instance.open = False
                service.ejected_s[instance.name] = now_s + self._mesh.eject_s
                self._record(kind, f"{instance.name} ejected for {self._mesh.eject_s:g} s", "it did worse than its siblings")
        for instance in service.ready():
            if service.ejected_s.get(instance.name, now_s + 1.0) <= now_s:
                del service.ejected_s[instance.name]
                instance.open = True

    def _sample_instance(self, service: _Scaled, instance: Instance, now_s: float) -> scaling.InstanceSample:
        now = (instance.seats.answers, instance.seats.errors)
        before = service.counters.get(instance.name, now)
        service.counters[instance.name] = now
        # Health checks queue behind requests: if the oldest waits longer than their timeout, none was answered.
        checked = not instance.node.queue or now_s - instance.node.queue[0].arrived_ns / NS <= CHECK_TIMEOUT_S
        return scaling.InstanceSample(instance.name, now[0] - before[0], now[1] - before[1], checked, instance.seats.inside)

    # ---- changing ------------------------------------------------------------------------------------

    def _change(self, kind: str, service: _Scaled, desired: scaling.Desired) -> None:
        start_s, service.changing = self._now_s, True
        existing = len(service.fleet.instances)

        def ended() -> None:
            now_s = self._now_s
            service.changing = False
            service.scaler.changed(now_s)
            if desired.wanted != existing:  # one that is being replaced exists, though it is not ready
                self._record(kind, f"{existing} -> {desired.wanted} in {now_s - start_s:.1f} s", desired.why)

        if desired.wanted > existing:
            self._add(service, desired.wanted - existing, ended)
        else:
            self._remove(service, service.fleet.instances[desired.wanted:], ended)

    def _add(self, service: _Scaled, many: int, ended: Callable[[], None]) -> None:
        """Start `many` concurrently; call `ended` when the last of them accepts requests."""
        left = itertools.count(many - 1, -1)

        def healthy(instance: Instance) -> None:
            self._admit(service, instance)
            if next(left) == 0:
                ended()

        for _ in range(many):
            instance = service.fleet.add()
            service.starting.add(instance.name)
            self._start(instance, lambda instance=instance: healthy(instance))  # type: ignore[misc]

    def _start(self, instance: Instance, healthy: Callable[[], None]) -> None:
        instance.node.quota = None  # a start is not throttled
        self._engine.bindings.units[f"{instance.name}.start"] = Unit("start", START_CPU_S, 0.0, constant(1.0))
        self.start_process(instance.name, healthy)

    def _start_here(self, name: str, healthy: Callable[[], None]) -> None:
        self._engine.env.process(self._started(name, healthy))

    def _started(self, name: str, healthy: Callable[[], None]) -> Wait:
        engine = self._engine
        steps = engine.link((Cpu(name, "start"),))
        yield engine.env.process(engine.run(Job(Context(0, "start", 0, 0, engine.env.now, 0), 0), steps))
        yield engine.env.timeout(ns(START_WAIT_S))
        healthy()

    def _admit(self, service: _Scaled, instance: Instance) -> None:
        service.starting.discard(instance.name)
        self._limit(instance.node)
        instance.open = True

    def _remove(self, service: _Scaled, leaving: list[Instance], ended: Callable[[], None]) -> None:
        """Remove instances one after the other, the most recently added first."""
        if not leaving:
            ended()
            return
        instance, start_s = leaving[-1], self._now_s
        instance.open = False
        service.leaving.add(instance.name)

        def check(_event: Any) -> None:
            busy = instance.seats.inside + len(instance.seats.queue)
            if busy and self._now_s - start_s < DRAIN_S:
                self._after(LOOK_S, check)
            else:
                self._after(STOP_S, stopped)

        def stopped(_event: Any) -> None:
            service.fleet.remove(instance)
            service.leaving.discard(instance.name)
            for table in (service.used_s, service.counters, service.bad_samples, service.ejected_s):
                table.pop(instance.name, None)
            self._remove(service, leaving[:-1], ended)

        check(None)

    def _record(self, kind: str, change: str, reason: str) -> None:
        self.decisions.append((round(self._now_s, 3), kind, change, reason))
