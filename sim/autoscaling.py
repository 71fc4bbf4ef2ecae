"""The autoscaler in the model: once a second it looks at every service, and instances come and go.

What is decided is the system's own (`kernel/resilience/scaling.py`): how many there should be, and whom to eject. Here is only
what those decisions look at and what they cause, as scaling/autoscaler.py and outlier_ejection.py do it on real processes:

    in    the process starts, which burns CPU without a quota; when it is well, the mesh sends it requests
    out   no new request; when none is inside (or `DRAIN_S` later) it ends

The workers keep one instance each here (the model has no partitions to share out). An instance that hangs is not replaced.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

from sim import services
from sim.bandwidth import Bandwidth
from sim.engine import Engine
from sim.fleet import Fleet, Instance
from sim.jobs import Context, Unit
from sim.program import Cpu, flatten
from sim.stations import Node, call_after
from system.kernel.policies import AutoscaleKnobs, Policies
from system.kernel.resilience import scaling

EVERY_S, MOST = 1.0, 16  # as in system/platform/scaling/autoscaler.py, which the twin may not import; a test holds them equal
DRAIN_S, LOOK_S = 10.0, 0.1  # as in system/platform/scaling/haproxy_runtime.py
STOP_S = 0.1             # from the last request inside to the end of the process: 0.2 s with one look, run of 2026-11-23
START_CPU_S = 0.55       # interpreter, imports, connections: 0.5 to 0.6 s of CPU on the 2-core development machine
START_WAIT_S = 0.15      # health looked at every 0.1 s, and the mesh told; 0.7 s in all on a calm machine, same run
CHECK_TIMEOUT_S = 3.0    # of a health check: system/platform/servers/haproxy.py
FIXED = ("fanout", "indexer")  # scaled in the system, not here


@dataclasses.dataclass
class _Scaled:
    """The state of one service. `used_s`: instance -> CPU at the last look. `told`: instance -> (answers, errors) then."""

    fleet: Fleet
    scaler: scaling.Scaler
    used_s: dict[str, float] = dataclasses.field(default_factory=dict)
    told: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    ill: dict[str, int] = dataclasses.field(default_factory=dict)
    ejected_s: dict[str, float] = dataclasses.field(default_factory=dict)
    leaving: set[str] = dataclasses.field(default_factory=set)
    starting: set[str] = dataclasses.field(default_factory=set)
    changing: bool = False
    answers: int = 0

    def ready(self) -> list[Instance]:
        """Instances that are well and are not about to leave."""
        gone = self.leaving | self.starting
        return [one for one in self.fleet.instances if one.name not in gone and not one.node.down]


class Autoscaler:
    """Quotas and instances of one replication. `background`: node -> cores that it burns whatever the load is.

    `standing`: how many instances each service has from the start. `counts`: (second, service, instances) of each look.
    `decisions`: (second, service, what, why), in the system's words.
    """

    def __init__(self, engine: Engine, fleets: dict[str, Fleet], policies: Policies, quota: float | None,
                 background: dict[str, float], phase: Callable[[], float], standing: int = 1) -> None:
        self._engine, self._knobs, self._mesh = engine, policies.autoscale, policies.mesh
        self._quota, self._background, self._phase = quota, background, phase
        self.counts: list[tuple[float, str, int]] = []
        self.decisions: list[tuple[float, str, str, str]] = []
        most = policies.limits.max_gateways
        self._services = {fleet.kind: _Scaled(fleet, scaling.Scaler(self._limits(fleet.kind, most))) for fleet in fleets.values()}
        for name in services.QUOTED:
            self._limit(engine.bindings.nodes[name])
        for each in self._services.values():
            for _ in range(standing - 1):
                self._well(each, each.fleet.add())
        if self._knobs.max:
            self._begin()

    def _limits(self, kind: str, max_gateways: int) -> AutoscaleKnobs:
        least, most = max(self._knobs.min, 1), max_gateways if kind == "gateway" else MOST
        return dataclasses.replace(self._knobs, min=least, max=max(least, min(self._knobs.max, most)))

    def _limit(self, node: Node) -> None:
        if self._quota is not None:
            cores = max(self._quota - self._burnt(node.name), 0.1 * self._quota)
            node.quota = Bandwidth(self._engine.env, self._engine.host, cores, self._phase())

    def _burnt(self, name: str) -> float:
        return self._background.get(f"{name.rpartition('-')[0]}-1", 0.0)

    def _begin(self) -> None:
        for each in self._services.values():
            for _ in range(self._knobs.min - len(each.fleet.instances)):
                self._well(each, each.fleet.add())
        call_after(self._engine.env, 0.0, self._look)

    # ---- looking -------------------------------------------------------------------------------------

    def _look(self, _event: Any) -> None:
        now_s = self._engine.env.now
        call_after(self._engine.env, EVERY_S, self._look)
        for kind, each in self._services.items():
            self.counts.append((now_s, kind, len(each.ready())))
            self._eject(kind, each, now_s)
            look = self._measure(each)
            if now_s > 0.0 and not each.changing:
                wish = each.scaler.look(look, now_s)
                if scaling.change(wish.wanted, look.ready, len(each.fleet.instances)) is not None:
                    self._change(kind, each, wish)
        self.counts += [(now_s, kind, 1) for kind in FIXED]

    def _measure(self, each: _Scaled) -> scaling.Look:
        """What its instances did since the last look."""
        shares, ready = [], each.ready()
        for one in ready:
            before_s, used_s = each.used_s.get(one.name), one.node.demand_s
            each.used_s[one.name] = used_s
            if before_s is not None:
                shares.append(((used_s - before_s) / EVERY_S + self._burnt(one.name)) / (self._quota or 1.0))
        here = each.fleet.instances
        answers = sum(one.seats.answers for one in here)
        rate_per_s, each.answers = max(0, answers - each.answers) / EVERY_S, answers
        inside, waiting = sum(one.seats.inside for one in here), sum(len(one.seats.queue) for one in here)
        return scaling.Look(len(ready), sum(shares) / max(1, len(shares)), inside / max(1, len(ready)),
                            waiting / max(1.0, rate_per_s))

    def _eject(self, kind: str, each: _Scaled, now_s: float) -> None:
        standing = [one for one in each.ready() if one.open]
        seen = [self._seen(each, one, now_s) for one in standing]
        worse = scaling.ejected(seen, self._mesh, sum(one.name in each.ejected_s for one in each.ready()))
        for one, told in zip(standing, seen, strict=True):
            each.ill[one.name] = each.ill.get(one.name, 0) + 1 if one.name in worse else 0
            if one.name in worse and (not told.checked or each.ill[one.name] >= scaling.ILL_LOOKS):
                one.open = False
                each.ejected_s[one.name] = now_s + self._mesh.eject_s
                self._tell(kind, f"{one.name} ejected for {self._mesh.eject_s:g} s", "it did worse than its siblings")
        for one in each.ready():
            if each.ejected_s.get(one.name, now_s + 1.0) <= now_s:
                del each.ejected_s[one.name]
                one.open = True

    def _seen(self, each: _Scaled, one: Instance, now_s: float) -> scaling.Seen:
        now = (one.seats.answers, one.seats.errors)
        before = each.told.get(one.name, now)
        each.told[one.name] = now
        # Checks wait behind the requests: where the oldest has waited longer than a check may, none of them was answered.
        checked = not one.node.queue or now_s - one.node.queue[0].arrived <= CHECK_TIMEOUT_S
        return scaling.Seen(one.name, now[0] - before[0], now[1] - before[1], checked, one.seats.inside)

    # ---- changing ------------------------------------------------------------------------------------

    def _change(self, kind: str, each: _Scaled, wish: scaling.Desired) -> None:
        began_s, each.changing = self._engine.env.now, True
        there = len(each.fleet.instances)

        def ended() -> None:
            now_s = self._engine.env.now
            each.changing = False
            each.scaler.changed(now_s)
            if wish.wanted != there:  # one that is being healed is there, though not ready
                self._tell(kind, f"{there} -> {wish.wanted} in {now_s - began_s:.1f} s", wish.why)

        if wish.wanted > there:
            self._add(each, wish.wanted - there, ended)
        else:
            self._remove(each, each.fleet.instances[wish.wanted:], ended)

    def _add(self, each: _Scaled, many: int, ended: Callable[[], None]) -> None:
        """Start `many` at once; `ended` is called when the last of them takes requests."""
        left = itertools.count(many - 1, -1)

        def well(one: Instance) -> None:
            self._well(each, one)
            if next(left) == 0:
                ended()

        for _ in range(many):
            one = each.fleet.add()
            each.starting.add(one.name)
            self._start(one, lambda one=one: well(one))  # type: ignore[misc]

    def _start(self, one: Instance, well: Callable[[], None]) -> None:
        one.node.quota = None  # a start is not throttled
        self._engine.bindings.units[f"{one.name}.start"] = Unit("start", START_CPU_S, 0.0, itertools.repeat(1.0))
        code = self._engine.link(flatten((Cpu(one.name, "start"),)))
        ctx = Context(0, "start", 0, 0, self._engine.env.now)
        self._engine.start(code, ctx, lambda _job, _status: call_after(self._engine.env, START_WAIT_S, lambda _: well()))

    def _well(self, each: _Scaled, one: Instance) -> None:
        each.starting.discard(one.name)
        self._limit(one.node)
        one.open = True

    def _remove(self, each: _Scaled, doomed: list[Instance], ended: Callable[[], None]) -> None:
        """Take instances out one after the other, the last ones added first."""
        if not doomed:
            ended()
            return
        one, began_s = doomed[-1], self._engine.env.now
        one.open = False
        each.leaving.add(one.name)

        def look(_event: Any) -> None:
            busy = one.seats.inside + len(one.seats.queue)
            if busy and self._engine.env.now - began_s < DRAIN_S:
                call_after(self._engine.env, LOOK_S, look)
            else:
                call_after(self._engine.env, STOP_S, gone)

        def gone(_event: Any) -> None:
            each.fleet.remove(one)
            each.leaving.discard(one.name)
            for kept in (each.used_s, each.told, each.ill, each.ejected_s):
                kept.pop(one.name, None)
            self._remove(each, doomed[:-1], ended)

        look(None)

    def _tell(self, kind: str, what: str, why: str) -> None:
        self.decisions.append((round(self._engine.env.now, 3), kind, what, why))
