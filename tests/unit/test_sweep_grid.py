"""The points of a sweep, and every input that is refused before anything runs."""

import pytest

from system.kernel.errors import WrongInput
from tweetlab import cli
from tweetlab.sweep import execute, grid


def points(*over, **options):
    return grid.points("first_run", grid.axes(over), **options)


def test_a_grid_has_every_combination_in_order():
    """The last setting varies fastest."""
    assert [point.text for point in points("push_limit=50,300", "rate=100..200:2")] == [
        "push_limit=50 rate=100/s", "push_limit=50 rate=200/s", "push_limit=300 rate=100/s", "push_limit=300 rate=200/s"]


def test_a_range_is_even_or_by_ratio():
    """Whole numbers stay whole, and equal ones are one value."""
    assert grid.axis("rate=10..40:4").values == ("10/s", "20/s", "30/s", "40/s")
    assert grid.axis("rate=10..1000:3:log").values == ("10/s", "100/s", "1000/s")
    assert grid.axis("retry.attempts=1..3:5").values == ("1", "2", "3")
    assert grid.axis("retry.budget=0 %..50 %:3").values == ("0 %", "25 %", "50 %")


def test_a_rate_is_constant_and_has_no_faults():
    """As in a trial of --find-capacity."""
    point = points("rate=80")[0]

    assert point.rate_per_s == 80.0 and point.scenario.faults == ()
    assert [(stage.rate_from, stage.rate_to, stage.for_s) for stage in point.scenario.workload.stages] == [(80.0, 80.0, 60.0)]


def test_operations_set_the_duration_at_each_rate():
    """After the warm-up, so that each point measures the same number."""
    assert [point.scenario.workload.load_s for point in points("rate=100,400", operations=2000)] == [10 + 20, 10 + 5]


def test_load_is_a_factor_that_keeps_stages_and_faults():
    """So a spike stays a spike."""
    point = points("load=2")[0]

    assert point.scenario.workload.peak_per_s == 80.0 and len(point.scenario.faults) == 1 and point.rate_per_s is None


def test_a_latin_hypercube_covers_every_part_of_every_range_once():
    """Ten points, ten parts."""
    sample, again = (points("push_limit=0..1000", "rate=100..200", sample=10, seed=3) for _ in range(2))
    limits = sorted(point.scenario.policies.fanout.push_limit for point in sample)
    rates = sorted(point.rate_per_s for point in sample)

    assert [int(limit // 100.1) for limit in limits] == list(range(10))
    assert [int((rate - 100) // 10) for rate in rates] == list(range(10))
    assert [point.text for point in sample] == [point.text for point in again]


def test_twin_only_settings_are_kept_apart():
    """They change the modeled machine, not the scenario."""
    point = points("cores=4", "cost.timelines-1=0.5")[0]

    assert point.machine == {"cores": 4.0, "cost.timelines-1": 0.5}


@pytest.mark.parametrize(("over", "message"), [
    (["push_limt=3"], "'push_limt' is not known.*Did you mean \"policies.fanout.push_limit\"?.*A sweep also knows rate, load"),
    (["rate=0"], "rate is 0/s; it must be above 0"),
    (["rate=-5"], "rate is"),
    (["rate=nan"], "rate is"),
    (["rate=5..1:3"], "the first end must be below the second"),
    (["rate=1..5"], "a range without a count; write rate=1..5:5, or draw points with --sample"),
    (["rate=0..5:3:log"], "must start above 0"),
    (["rate=10/s..5/min:3"], "the ends are in /s and /min"),
    (["rate=1..5:1"], "the count is 1; it must be from 2"),
    (["rate"], "must read KEY=a,b,c"),
    (["rate=1", "rate=2"], "'rate' is given 2 times"),
    (["push_limit=-4"], "push_limit` is -4; it must be a whole number from 0"),
    (["cores=1.5"], "cores is 1.5; it must be a whole number"),
    (["load=inf"], "load is 'inf'; it must be a number above 0"),
    (["seed=1..20000:20000"], "20,000 points; more than 10,000 need --yes.*--sample"),
])
def test_a_bad_grid_is_refused_with_value_bound_and_fix(over, message):
    """Before anything runs."""
    with pytest.raises(WrongInput, match=message.replace("?", r"\?").replace("(", r"\(")):
        points(*over)


def test_ten_thousand_points_are_allowed():
    """The bound itself is; one more needs --yes."""
    assert len(points("load=1..10000:10000")) == 10_000
    assert len(points("load=1..10001:10001", yes=True)) == 10_001


@pytest.mark.parametrize(("words", "message"), [
    (["sweep", "first_run"], "names no settings to vary .*there is no --over"),
    (["sweep", "first_run", "--over", "rate=1", "--on", "both"], "--on is 'both'; it must be twin or system"),
    (["sweep", "first_run", "--over", "rate=1", "--within", "5"], "--within is '5'"),
    (["sweep", "first_run", "--over", "rate=1", "--within", "100 %"], "it must be above 0 and below 1"),
    (["sweep", "first_run", "--over", "rate=1", "--figure", "home p98"], "'home p98' is not known.*Did you mean"),
    (["sweep", "first_run", "--over", "rate=1", "--most", "3"], "--most is '3'; it must be a whole number from 5"),
    (["sweep", "first_run", "--over", "cost.nothing=2"], "cost.nothing names nothing that the calibration has"),
    (["sweep", "zone_loss", "--over", "push_limit=2"], "does not model the fault zone_loss.*--on system"),
    (["sweep", "first_run", "--over", "cores=4", "--on", "system"], "'cores' changes the modeled machine.*--on twin"),
    (["sweep", "first_run", "--over", "push_limit=0..100:30", "--on", "system"],
     r"takes about 5\d minutes on the system \(30 points, 1 runs each\); more than 20 need --yes"),
])
def test_the_command_refuses_bad_input(capsys, words, message):
    """Exit 64 (or 3), one message, and nothing ran."""
    import re

    assert cli.run(words) in (3, 64)
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(("on", "replications", "fixed"), [("system", 0, 1), ("system", 3, 3), ("twin", 0, 0), ("twin", 3, 3)])
def test_a_run_of_the_system_is_repeated_as_the_scenario_says(on, replications, fixed):
    """A sweep of real runs is complete with them; only predictions go on until the interval is narrow."""
    definition = execute.define("how_many_reads", grid.axes(["rate=100,200"]), on=on, replications=replications)

    assert definition.fixed == fixed
