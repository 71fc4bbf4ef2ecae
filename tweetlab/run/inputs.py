"""Everything that is drawn from the seed before a run; the same for the system and the twin."""

from __future__ import annotations

from dataclasses import dataclass

from scenarios import spec, workload
from scenarios.world import seeded_world


@dataclass(frozen=True)
class Inputs:
    """`world`: users, follows, past tweets and likes. `tape`: the schedule of arrivals."""

    world: seeded_world.World
    tape: workload.Tape


def draw(scenario: spec.Scenario) -> Inputs:
    """Draw the world and the arrivals of `scenario`. Raises WrongInput where they cannot be drawn."""
    world = seeded_world.draw(scenario.population, scenario.seed)
    return Inputs(world, workload.draw_over(scenario, world))
