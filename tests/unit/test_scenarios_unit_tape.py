"""Unit tapes: the same operations at every rate."""

import numpy as np
import pytest

from scenarios import loader, unit_tape, workload
from scenarios.world import seeded_world

SMALL = ["population.users=200", "population.follows={shape: even, mean: 5, max: 5}"]


@pytest.fixture(scope="module")
def drawn():
    """A unit tape for 3,000 operations at up to 300/s."""
    scenario = loader.load("first_run", SMALL)
    world = seeded_world.draw(scenario.population, scenario.seed)
    return scenario, world, unit_tape.draw(scenario, world, 3000, 300.0)


def test_two_rates_share_operations_and_unit_arrivals(drawn):
    """Only the due times differ, by the ratio of the rates: common random numbers."""
    scenario, _, unit = drawn
    slow, fast = (unit_tape.at(unit, scenario.at_rate(rate, 1000 / rate).workload) for rate in (50.0, 200.0))

    assert len(slow) == len(fast) > 900
    assert np.array_equal(slow.route, fast.route) and np.array_equal(slow.user, fast.user)
    assert np.array_equal(slow.target, fast.target)
    assert np.allclose(slow.due_ns / fast.due_ns, 4.0, rtol=1e-6)


def test_a_shorter_load_is_a_prefix_of_a_longer_one(drawn):
    """A sweep of rates at one duration shares its first operations."""
    scenario, _, unit = drawn
    short, long = (unit_tape.at(unit, scenario.at_rate(100.0, seconds).workload) for seconds in (5.0, 20.0))

    assert np.array_equal(short.due_ns, long.due_ns[:len(short)])
    assert short.due_ns[-1] < 5e9 <= long.due_ns[len(short)]


def test_a_ramp_is_followed(drawn):
    """The unit arrivals go through the planned rate of every stage."""
    _, _, unit = drawn
    work = loader.load("evening_spike", [*SMALL, "workload.stages=[{for: 20 s, rate: 10/s..90/s}]"]).workload
    tape = unit_tape.at(unit, work)

    first, second = (int(((tape.due_ns >= low * 1e9) & (tape.due_ns < high * 1e9)).sum()) for low, high in ((0, 10), (10, 20)))
    assert abs(first - 300) < 4 * 300**0.5 and abs(second - 700) < 4 * 700**0.5


def test_the_number_of_operations_has_the_spread_of_a_poisson_process(drawn):
    """Replications differ in how many operations arrive, as on the real system."""
    scenario, world, _ = drawn
    counts = []
    for seed in range(30):
        again = unit_tape.draw(loader.load("first_run", [*SMALL, f"seed={seed}"]), world, 400, 100.0)
        counts.append(len(unit_tape.at(again, scenario.at_rate(100.0, 4.0).workload)))

    assert abs(np.mean(counts) - 400) < 4 * 20 / 30**0.5
    assert 10 < np.std(counts) < 32


def test_every_delete_is_old_enough_for_its_post_at_every_lower_rate(drawn):
    """The operations are drawn at the highest rate; lower ones only stretch the pauses."""
    scenario, _, unit = drawn
    for rate in (30.0, 100.0, 300.0):
        tape = unit_tape.at(unit, scenario.at_rate(rate, 2900 / rate).workload)
        deletes = np.flatnonzero(tape.route == workload.ROUTES.index("delete"))
        assert len(deletes)
        assert (tape.due_ns[deletes] - tape.due_ns[tape.target[deletes]]).min() >= workload.DELETE_AFTER_NS


def test_more_than_was_drawn_is_refused(drawn):
    """A tape that ends early would look like a lower rate."""
    scenario, _, unit = drawn
    with pytest.raises(ValueError, match="exceed the unit tape"):
        unit_tape.at(unit, scenario.at_rate(300.0, 100.0).workload)
    with pytest.raises(ValueError, match="exceed the unit tape"):
        unit_tape.at(unit, scenario.at_rate(500.0, 1.0).workload)
