"""Faults in the twin, by the kinds of a scenario: what each does to stations and data.

`kill` takes one process away: jobs inside it fail, new ones are refused, its consumers stop. Auto-heal brings it back after
`RESTART_S`. A killed Redis is also a cache loss, since it keeps nothing on disk.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from scenarios import spec, vocabulary
from sim import services, stores
from sim.engine import Engine
from sim.jobs import UNAVAILABLE
from sim.model import Model
from sim.program import UnknownStep
from sim.queues import PollLoop
from sim.stations import call_after

RESTART_S = {
    "cassandra": 20.0, "cdn": 0.5, "elasticsearch": 18.0, "haproxy": 0.5, "kafka": 8.0, "limits": 0.7, "minio": 2.0,
    "postgres": 2.0, "redis": 0.7,
}  # fmt: skip
"""Seconds from SIGKILL until a server answers again: starts on the 2-core development machine, supervisor's look included."""

PYTHON_RESTART_S = 2.0
"""Seconds until one of our own processes answers again: interpreter, imports, connections."""


REFILLED = 0.1  # of the keys before a cache loss: the real drill's own recovery probe
LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class Stricken:
    """A fault of this run, in seconds from the start of load. `recovered_s` None: not over when the run ended."""

    kind: str
    target: str
    start_s: float
    end_s: float | None
    recovered_s: float | None


class Faults:
    """Plans the faults of a scenario on `engine`. `consumers`: node -> its poll loops."""

    def __init__(self, engine: Engine, model: Model, consumers: dict[str, list[PollLoop]]) -> None:
        self.engine = engine
        self.model = model
        self.consumers = consumers
        self.done: list[Stricken] = []

    def plan(self, fault: spec.Fault) -> None:
        """Let `fault` happen at its time. Raises UnknownStep for a kind or target that the model does not have."""
        if fault.kind not in FAULTS:
            raise UnknownStep(f"Fault `{fault.kind}` is not known to the twin; known are {', '.join(sorted(FAULTS))}.")
        FAULTS[fault.kind](self, fault)

    def cache_loss(self, fault: spec.Fault) -> None:
        """FLUSHALL: every cached list and tweet is gone at once. Recovered, as in a real drill, with a tenth of the keys."""
        name, world = self._node(fault.target), self.model.world

        def strike(_event: object) -> None:
            before = world.keys()
            world.lose_cache()
            self.done.append(Stricken("cache_loss", name, fault.at_s, fault.at_s, None))
            look(len(self.done) - 1, before)

        def look(place: int, before: int) -> None:
            if world.keys() >= REFILLED * before:
                self.done[place] = dataclasses.replace(self.done[place], recovered_s=self.engine.env.now)
            else:
                call_after(self.engine.env, LOOK_EVERY_S, lambda _: look(place, before))

        call_after(self.engine.env, fault.at_s, strike)

    def kill(self, fault: spec.Fault) -> None:
        """SIGKILL of one process; auto-heal starts it again."""
        name = self._node(fault.target)
        node = self.engine.bindings.nodes[name]
        down_s = RESTART_S.get(name.rsplit("-", 1)[0], PYTHON_RESTART_S)

        def strike(_event: object) -> None:
            lost = node.crash()
            for loop in self.consumers.get(name, ()):
                loop.stop()
            if name == stores.REDIS:
                self.model.world.lose_cache()
            self.done.append(Stricken("kill", name, fault.at_s, fault.at_s + down_s, fault.at_s + down_s))
            for job in lost:
                self.engine.fail(job, UNAVAILABLE)
            call_after(self.engine.env, down_s, heal)

        def heal(_event: object) -> None:
            node.restart()
            for loop in self.consumers.get(name, ()):
                loop.resume()

        call_after(self.engine.env, fault.at_s, strike)

    def _node(self, target: str) -> str:
        nodes = self.engine.bindings.nodes
        for name in (target, f"{target}-1"):
            if name in nodes:
                return name
        raise UnknownStep(f"The twin has no node `{target}`; it has {', '.join(sorted(nodes))}.")


FAULTS: dict[str, Callable[[Faults, spec.Fault], None]] = {"cache_loss": Faults.cache_loss, "kill": Faults.kill}
"""Kind of fault -> what happens in the model."""

NOT_OF_A_CLUSTER = (
    "replication: a quorum or a synchronous standby costs nothing, and what the further members burn is not in the background",
    "failover: no pause in which a new primary is chosen, no balancer or zone that is lost",
    "workers: one of each kind, whose work is what all of them do",
)
"""What the model leaves out of a blueprint with zones, told in the record of each prediction."""


def lacking(scenario: spec.Scenario) -> list[str]:
    """Return what of `scenario` the model cannot play, in words: faults, and the ways between regions, of which it knows nothing.

    In a cluster it has the services as they are, but each store as one: the death of a member would be the death of all.
    """
    scaled = {name.rpartition("-")[0] for name in services.SCALED}
    found = {"the lines between regions"} if scenario.platform in vocabulary.REGIONS else set()
    for fault in scenario.faults_in_load:
        if fault.kind not in FAULTS:
            found.add(f"the fault {fault.kind}")
        elif fault.kind == "kill" and scenario.platform in vocabulary.ZONES and fault.target.rstrip("-0123456789") not in scaled:
            found.add(f"the death of {fault.target}, one of several")
    return sorted(found)
