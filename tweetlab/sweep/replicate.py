"""One replication of one point on the twin: the unit of work of a sweep.

World and unit arrivals are drawn once and kept: points that differ in their rate or in a policy share them (common
random numbers). Replication r draws arrivals and service demands from the scenario's seed + r; the follow graph and the
seeded tweets are always those of the scenario's seed, as on the real system.

`play` is the only place where a sweep calls the model.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scenarios import spec, unit_tape, workload
from scenarios.world import seeded_world
from sim import outcome, twin
from sim.calibration import Calibration
from sim.replication import Replication
from sim.state import Seeded
from system.kernel.errors import WrongInput
from system.kernel.policies import Policies
from tweetlab.sweep import rows


@dataclass(frozen=True)
class Task:
    """One replication. `point`: its number, -1 outside the grid (pilot, search of the knee).

    `machine`: twin-only settings of the point. `unit`: operations and highest rate (1/s) of the unit tape that the points
    of the sweep share; None draws a tape of its own. `first_pages`: without second pages, so that the planned rate is the
    rate of requests.
    """

    point: int
    replication: int
    scenario: spec.Scenario
    machine: Mapping[str, float] = field(default_factory=dict)
    unit: tuple[float, float] | None = None
    first_pages: bool = False


def play(task: Task, calibration: Calibration) -> rows.Row:
    """Play one replication; return its row, with `operations` and `took_s` (wall time)."""
    start_s = time.perf_counter()
    scenario = task.scenario
    changed = on_machine(calibration, task.machine)
    seed = scenario.seed + task.replication
    tape = tape_of(task)
    replication = Replication(scenario, changed, _seeded(scenario.population, scenario.seed), seed)
    played = replication.play(tape)
    facts = outcome.facts_of(played, scenario, tape, {}, changed)
    row = rows.of_facts(facts, twin.remarks(played, scenario, changed))
    laws = twin.merged_laws([twin.laws(played)])
    return {**row, "laws_hold": laws["hold"], "operations": len(tape), "took_s": round(time.perf_counter() - start_s, 3)}


def tape_of(task: Task) -> workload.Tape:
    """Return the arrivals of the replication."""
    scenario, seed = task.scenario, task.scenario.seed + task.replication
    work = scenario.workload
    seeded = dataclasses.replace(scenario, seed=seed)
    if task.unit is None or any(stage.mix for stage in work.stages):
        tape = workload.draw_over(seeded, _world(scenario.population, scenario.seed))
    else:
        mix = tuple(sorted(work.mix.items()))
        unit = _unit(scenario.population, scenario.seed, seed, work.arrivals, mix, work.zipf, task.unit)
        tape = unit_tape.at(unit, work)
    if task.first_pages:
        tape = dataclasses.replace(tape, second_page=np.zeros(len(tape), bool))
    return tape


def on_machine(calibration: Calibration, machine: Mapping[str, float]) -> Calibration:
    """Return the calibration of a machine with other cores, costs or delays.

    Raises WrongInput for a process or a hop that the calibration does not have.
    """
    changed = calibration
    for key, factor in machine.items():
        kind, _, name = key.partition(".")
        if kind == "cores":
            changed = dataclasses.replace(changed, cores=factor)
        elif kind == "cost":
            _known("cost", name, changed.nodes)
            changed = changed.costing({name: factor})
        else:
            _known("delay", name, changed.delays.keys())
            shape = changed.delays[name]
            slower = dataclasses.replace(shape, quantiles_ms=tuple(one * factor for one in shape.quantiles_ms))
            changed = dataclasses.replace(changed, delays={**changed.delays, name: slower})
    return changed


def _known(kind: str, name: str, names: Any) -> None:
    if name not in names:
        raise WrongInput(f"The key {kind}.{name} names nothing that the calibration has; it must be one of "
                         f"{', '.join(f'{kind}.{one}' for one in sorted(names))}.")


@functools.lru_cache(maxsize=4)
def _world(population: spec.Population, seed: int) -> seeded_world.World:
    return seeded_world.draw(population, seed)


@functools.lru_cache(maxsize=4)
def _seeded(population: spec.Population, seed: int) -> Seeded:
    world = _world(population, seed)
    scenario = dataclasses.replace(_ANY, population=population, seed=seed)
    return Seeded.of(scenario, world.graph, world.past)


@functools.lru_cache(maxsize=64)  # replications of a point follow each other, and come again at the next point
def _unit(population: spec.Population, world_seed: int, seed: int, arrivals: str, mix: tuple[tuple[str, float], ...],
          zipf: float, unit: tuple[float, float]) -> unit_tape.UnitTape:
    work = spec.Workload(arrivals, (spec.Stage(1.0, 1.0, 1.0),), dict(mix), zipf)
    scenario = dataclasses.replace(_ANY, population=population, seed=seed, workload=work)
    return unit_tape.draw(scenario, _world(population, world_seed), *unit)


_ANY = spec.Scenario("any", "", "", 0, "small", spec.Population(), spec.Workload("poisson", (), {}), Policies(),
                     (), (), spec.Measure())
"""A scenario of which only the population, the workload and the seed are read."""
