"""Short predictions of the twin."""

from __future__ import annotations

from typing import Any

from scenarios import loader, spec, workload
from scenarios.world import population
from sim import calibration, twin
from tests.helpers import twin_harness as harness

SHORT = ("workload.stages.0.for=14 s", "workload.stages.0.rate=40/s", "measure.warm_up=4 s", "population.users=400",
         "population.follows={shape: pareto, mean: 20, max: 200}", "policies.fanout.push_limit=100",
         "objectives=[home p99 <= 250 ms steady]")  # fmt: skip


def asked(*overrides: str) -> spec.Scenario:
    """Return a short `first_run` on a small population."""
    return loader.load("first_run", (*SHORT, *overrides))


def predict(scenario: spec.Scenario, with_: calibration.Calibration | None = None, **more: Any) -> twin.Prediction:
    """Return the twin's prediction. `with_`: None for the calibration from the literature."""
    graph = population.graph_of(scenario.population, scenario.seed)
    tape = workload.draw(scenario, graph)
    return twin.run(scenario, with_ or calibration.load(harness.LITERATURE), tape, graph, **{"replications": 1, **more})

CALM = "faults=[]"
