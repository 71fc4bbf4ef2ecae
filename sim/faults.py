"""Faults in the twin, by the kinds of a scenario: the effect of each on stations and data.

`kill` stops one process: jobs inside it fail, new ones are refused, its consumers stop. Auto-heal restarts it
after `RESTART_S`. A killed Redis is also a cache loss, because it stores nothing on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from scenarios import spec, vocabulary
from sim import services, stores
from sim.engine import Engine
from sim.jobs import UNAVAILABLE
from sim.program import UnknownStep
from sim.resources import Process, Wait
from sim.streams import NS, ns

RESTART_S = {
    "cassandra": 20.0, "cdn": 0.5, "elasticsearch": 18.0, "haproxy": 0.5, "kafka": 8.0, "limits": 0.7, "minio": 2.0,
    "postgres": 2.0, "redis": 0.7,
}  # fmt: skip
"""Seconds from SIGKILL until a server answers again.

Measured on the 2-core development machine, including the supervisor's poll.
"""

PYTHON_RESTART_S = 2.0
"""Seconds until a Python service answers again: interpreter, imports, connections."""


REFILLED = 0.1  # of the keys before a cache loss: the real drill's own recovery probe
LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class FaultWindow:
    """A fault of this run, in seconds from the start of load.

    `recovered_s` None: not recovered when the run ended.
    """

    kind: str
    target: str
    start_s: float
    end_s: float | None
    recovered_s: float | None


class Plant(Protocol):
    """What faults act on: the processes and the cache of a replication, in either engine."""

    @property
    def nodes(self) -> Mapping[str, Process]:
        """The processes by name."""
        ...

    def keys(self) -> int:
        """Return the number of keys in the cache."""
        ...

    def lose_cache(self) -> None:
        """Empty the cache."""
        ...

    def crash(self, name: str, status: int) -> None:
        """Kill a process, and stop its consumers; work inside fails with `status`."""
        ...

    def restart(self, name: str) -> None:
        """Start the process and its consumers again."""
        ...


class Faults:
    """Schedules the faults of a scenario on the clock of `engine`."""

    def __init__(self, engine: Engine, plant: Plant) -> None:
        self.engine = engine
        self.plant = plant
        self.done: list[FaultWindow] = []

    def plan(self, fault: spec.Fault) -> None:
        """Schedule `fault` at its time.

        Raises UnknownStep for a kind or target that the model does not have.
        """
        if fault.kind not in FAULTS:
            raise UnknownStep(f"Fault `{fault.kind}` is not known to the twin; known are {', '.join(sorted(FAULTS))}.")
        self._node(fault.target)
        self.engine.env.process(FAULTS[fault.kind](self, fault))

    def cache_loss(self, fault: spec.Fault) -> Wait:
        """FLUSHALL: removes every cached list and tweet.

        Recovered, as in a real drill, with a tenth of the keys.
        """
        env, plant, name = self.engine.env, self.plant, self._node(fault.target)
        yield env.timeout(ns(fault.at_s))
        before = plant.keys()
        plant.lose_cache()
        self.done.append(FaultWindow("cache_loss", name, fault.at_s, fault.at_s, None))
        index = len(self.done) - 1
        while plant.keys() < REFILLED * before:
            yield env.timeout(ns(LOOK_EVERY_S))
        self.done[index] = dataclasses.replace(self.done[index], recovered_s=env.now / NS)

    def kill(self, fault: spec.Fault) -> Wait:
        """SIGKILL of one process; auto-heal starts it again."""
        env, name = self.engine.env, self._node(fault.target)
        down_s = RESTART_S.get(name.rsplit("-", 1)[0], PYTHON_RESTART_S)
        yield env.timeout(ns(fault.at_s))
        self.plant.crash(name, UNAVAILABLE)
        if name == stores.REDIS:
            self.plant.lose_cache()
        self.done.append(FaultWindow("kill", name, fault.at_s, fault.at_s + down_s, fault.at_s + down_s))
        yield env.timeout(ns(down_s))
        self.plant.restart(name)

    def _node(self, target: str) -> str:
        nodes = self.plant.nodes
        for name in (target, f"{target}-1"):
            if name in nodes:
                return name
        raise UnknownStep(f"The twin has no node `{target}`; it has {', '.join(sorted(nodes))}.")


FAULTS: dict[str, Callable[[Faults, spec.Fault], Wait]] = {"cache_loss": Faults.cache_loss, "kill": Faults.kill}
"""Kind of fault -> its effect in the model."""

NOT_OF_A_CLUSTER = (
    "replication: a quorum or a synchronous standby costs nothing, and the CPU of further members is not in the background",
    "failover: no pause for the election of a new primary, no loss of a load balancer or zone",
    "workers: one of each kind, which does the work of all",
)
"""What the model omits of a blueprint with zones, stated in the record of each prediction."""


def lacking(scenario: spec.Scenario) -> list[str]:
    """Return descriptions of what the model cannot simulate in `scenario`: faults, and links between regions.

    In a cluster it has all instances of services, but each store as one: losing a member would mean losing
    all.
    """
    scaled = {name.rpartition("-")[0] for name in services.SCALED}
    missing = {"the links between regions"} if scenario.platform in vocabulary.REGIONS else set()
    for fault in scenario.faults_in_load:
        if fault.kind not in FAULTS:
            missing.add(f"the fault {fault.kind}")
        elif fault.kind == "kill" and scenario.platform in vocabulary.ZONES and fault.target.rstrip("-0123456789") not in scaled:
            missing.add(f"the loss of {fault.target}, one of several")
    return sorted(missing)
