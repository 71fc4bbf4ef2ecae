"""Tapes with common random numbers: the unit arrivals of a workload, drawn once and mapped to any rate.

Two tapes that `workload.draw` makes for two rates share their first arrival and little else: the draws of routes and
users start where those of the arrivals end. For a comparison of two points of a sweep that is noise. Here the k-th
operation has the same unit arrival, route, user and target at every rate; only its due time changes:

    unit = draw(scenario, world, operations=20_000, peak_per_s=800.0)
    slow, fast = at(unit, workload_at_100_per_s), at(unit, workload_at_800_per_s)

The operations are drawn at the highest rate of the sweep. At a lower one the pauses between operations only grow, so a
delete is still old enough for its post.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from scenarios import spec, workload
from scenarios.world import seeded_world


@dataclass(frozen=True)
class UnitTape:
    """`tape`: the operations, due at `marks` / `peak_per_s`. `marks`: float64, shape (n,): unit arrivals, ascending.

    `operations`: the number expected; the drawn one differs by chance.
    """

    tape: workload.Tape
    marks: np.ndarray
    peak_per_s: float
    operations: float


def draw(scenario: spec.Scenario, world: seeded_world.World, operations: float, peak_per_s: float) -> UnitTape:
    """Draw about `operations` operations with the mix of `scenario`, for rates up to `peak_per_s`.

    Raises ValueError if a stage has its own mix: then the route of an operation depends on its due time.
    """
    if any(stage.mix for stage in scenario.workload.stages):
        raise ValueError("a stage with its own mix has no unit tape")
    stage = spec.Stage(max(operations, 1.0) / peak_per_s, peak_per_s, peak_per_s)
    steady = dataclasses.replace(scenario.workload, stages=(stage,))
    tape = workload.draw_over(dataclasses.replace(scenario, workload=steady), world)
    return UnitTape(tape, tape.due_ns / 1e9 * peak_per_s, peak_per_s, max(operations, 1.0))


def at(unit: UnitTape, work: spec.Workload) -> workload.Tape:
    """Return the tape of `work`: the operations of `unit` whose unit arrival is within its load, at their due times.

    Raises ValueError if `work` needs more operations, or a higher rate, than `unit` was drawn for.
    """
    if work.peak_per_s > unit.peak_per_s * (1 + 1e-9) or work.planned > unit.operations * (1 + 1e-9):
        raise ValueError(f"{work.planned:.0f} operations at up to {work.peak_per_s:.0f}/s exceed the unit tape of "
                         f"{unit.operations:.0f} at {unit.peak_per_s:.0f}/s")
    lengths = np.array([stage.for_s for stage in work.stages])
    rates = np.array([(stage.rate_from, stage.rate_to) for stage in work.stages])
    expected = np.concatenate([[0.0], np.cumsum(lengths * rates.mean(axis=1))])
    count = int(np.searchsorted(unit.marks, expected[-1]))
    due_ns = workload.due_times(unit.marks[:count], expected, lengths, rates)
    kept = {name: getattr(unit.tape, name)[:count] for name in ("route", "user", "target", "second_page")}
    return dataclasses.replace(unit.tape, due_ns=due_ns, **kept)
