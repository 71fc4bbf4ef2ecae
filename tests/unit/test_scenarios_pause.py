"""A stage of `0/s` is a pause: no operation is due in it, and all others keep their times."""

from __future__ import annotations

import numpy as np
import pytest

from scenarios import loader, workload
from scenarios.world import population

SMALL = (
    "population.users=300",
    "population.follows={shape: pareto, mean: 10, max: 100}",
    "faults=[]",
    "objectives=[]",
    "measure.warm_up=0",
)


def due_s(arrivals: str, *stages: str) -> np.ndarray:
    """Return when the operations of these stages are due, in seconds."""
    scenario = loader.load(
        "first_run", [*SMALL, f"workload.arrivals={arrivals}", f"workload.stages=[{', '.join(stages)}]"]
    )
    tape = workload.draw(scenario, population.graph_of(scenario.population, scenario.seed))
    return tape.due_ns / 1e9


PAUSE = "{for: 5 s, rate: 0/s}"
BUSY = "{for: 5 s, rate: 40/s}"


@pytest.mark.parametrize("arrivals", ["poisson", "even"])
@pytest.mark.parametrize(("stages", "busy"), [
    ((BUSY, PAUSE, BUSY), [(0, 5), (10, 15)]), ((PAUSE, BUSY), [(5, 10)]), ((BUSY, PAUSE), [(0, 5)]),
    ((PAUSE, PAUSE, BUSY, PAUSE, PAUSE), [(10, 15)]), ((BUSY, PAUSE, PAUSE, BUSY), [(0, 5), (15, 20)]),
    (("{for: 5 s, rate: 0/s..80/s}", PAUSE, "{for: 5 s, rate: 80/s..0/s}"), [(0, 5), (10, 15)]),
    (("{for: 5 s, rate: 0/min}", BUSY), [(5, 10)]), (("{for: 5 s, rate: 0}", BUSY), [(5, 10)]),
    ((BUSY, "{for: 5 s, rate: 0/s..0/s}", BUSY), [(0, 5), (10, 15)]),
    (("{for: 5 s, rate: 0.1/s}", PAUSE, BUSY), [(0, 5), (10, 15)]),
])  # fmt: skip
def test_no_operation_is_due_in_a_pause_and_none_is_lost_around_it(arrivals, stages, busy):
    """Poisson and even arrivals, a pause first, last, twice in a row, beside ramps from and to 0."""
    due = due_s(arrivals, *stages)
    inside = sum(((due >= start) & (due < end)).sum() for start, end in busy)

    assert inside == len(due)
    assert len(due) == pytest.approx(200 * (len(busy) if "0.1/s" not in str(stages) else 1), rel=0.25)
    assert (np.diff(due) >= 0).all()


def test_a_pause_does_not_move_arrivals_of_the_stage_before():
    """The tape before the pause is the tape without the pause."""
    expected, paused = due_s("poisson", BUSY), due_s("poisson", BUSY, PAUSE)

    assert np.array_equal(expected, paused)


def test_a_ramp_from_zero_grows_evenly():
    """Its second half holds three quarters of its operations."""
    due = due_s("even", "{for: 10 s, rate: 0/s..80/s}")

    assert len(due) == 400
    assert (due >= 5).sum() == 300


@pytest.mark.parametrize(
    "stages", ["[{for: 5 s, rate: 0/s}]", "[{for: 5 s, rate: 0/s}, {for: 1m, rate: 0/s..0/s}]"]
)
def test_a_load_of_nothing_but_pauses_is_refused(stages):
    """There is nothing to run."""
    errors = loader.check("first_run", [*SMALL, f"workload.stages={stages}"]).errors

    assert len(errors) == 1
    assert "`workload.stages` is '0/s throughout'; at least one stage must have a rate above 0" in errors[0]


def test_the_mix_of_a_pause_plans_nothing():
    """A pause may name a route that no other stage has; no operation of it is ever due."""
    scenario = loader.load(
        "first_run",
        [
            *SMALL,
            "workload.stages=[{for: 5 s, rate: 0/s, mix: {search: 1}}, {for: 5 s, rate: 40/s}]",
            "workload.mix={home: 1}",
        ],
    )

    assert set(
        workload.draw(scenario, population.graph_of(scenario.population, scenario.seed)).planned()
    ) == {"home"}
