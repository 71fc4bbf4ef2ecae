"""Intervals, the number of replications, paired differences, and the utilization law."""

import pytest

from scenarios import loader
from sim import calibration
from system.kernel.errors import WrongInput
from tweetlab.sweep import asked, bottleneck, statistics


def row(number, p99_ms, **more):
    home = {"mean_ms": 1.0, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": p99_ms}
    return {"replication": number, "routes": {"home": home}, "cores": {}, "errors_percent": 0.0, "ok_per_s": 10.0,
            "utilization_percent": 5.0, "delivery_p99_s": None, "writes_per_tweet": None, **more}


def test_the_interval_is_students():
    """Five values 1 to 5: mean 3, standard error 0.7071, t(4) 2.776."""
    found = statistics.estimate([1.0, 2.0, 3.0, 4.0, 5.0])

    assert (found.mean, found.n) == (3.0, 5)
    assert found.low == pytest.approx(3 - 1.9632, abs=1e-3) and found.high == pytest.approx(3 + 1.9632, abs=1e-3)


def test_replications_go_on_until_the_interval_is_narrow_enough():
    """Five at least, at most twice as many as so far, never more than the most."""
    assert statistics.wanted([], 0.05, 5, 50) == 5
    assert statistics.wanted([10.0, 10.1, 9.9, 10.0, 10.0], 0.05, 5, 50) == 5
    assert statistics.wanted([5.0, 15.0, 8.0, 12.0, 10.0], 0.05, 5, 50) == 10
    assert statistics.wanted([10.0, 10.9, 9.1, 10.5, 9.5], 0.05, 5, 50) == 10
    assert statistics.wanted([5.0, 15.0] * 25, 0.01, 5, 50) == 50
    assert not statistics.is_reached([5.0, 15.0] * 25, 0.01, 5)


def test_pairs_cancel_what_replications_share():
    """Two points that differ by exactly 1 ms in each replication, which itself scatters by a factor of ten."""
    first = [row(number, value) for number, value in enumerate([5.0, 50.0, 20.0])]
    second = [row(number, value + 1.0) for number, value in enumerate([5.0, 50.0, 20.0])]
    found = statistics.difference(first, second, "home p99")

    assert (found.mean, found.low, found.high, found.n) == (1.0, 1.0, 1.0, 3)


def test_only_replications_that_both_have_are_compared():
    """A point that is missing a replication loses that pair only."""
    found = statistics.difference([row(0, 1.0), row(2, 5.0)], [row(1, 9.0), row(2, 6.0)], "home p99")

    assert (found.mean, found.n) == (1.0, 1)
    assert statistics.difference([row(0, 1.0)], [row(1, 1.0)], "home p99") is None


@pytest.mark.parametrize(("figure", "column", "unit"), [
    ("home p99", "home_p99_ms", "ms"), ("errors", "errors_percent", "%"), ("throughput", "throughput_per_s", "/s"),
    ("cores redis-1", "cores_redis_1", "cores"), ("delivery p99", "delivery_p99_s", "s"),
    ("writes per tweet", "writes_per_tweet", ""),
])
def test_a_column_names_its_unit(figure, column, unit):
    """As every table of the API does."""
    assert (asked.column(asked.check(figure)), asked.unit(figure)) == (column, unit)


def test_an_unknown_figure_is_refused():
    """With the nearest one."""
    with pytest.raises(WrongInput, match="Did you mean"):
        asked.check("homes p99")


def test_the_lowest_bound_is_the_bottleneck():
    """U = X D: at 100/s timelines uses 0.5 of its one core (bound 200/s); all use 0.8 of two cores (bound 250/s)."""
    scenario, known = loader.load("steady_home"), _idle()
    analysis = bottleneck.document({"ok_per_s": 100.0, "cores": {"timelines-1": 0.5, "cassandra-1": 0.3}}, scenario, known)

    assert analysis["name"] == "timelines-1" and analysis["bound_per_s"] == pytest.approx(200.0)
    assert [one["name"] for one in analysis["stations"]] == ["timelines-1", "the machine"]  # Cassandra has enough threads
    assert analysis["reliefs"] == [
        {"change": "a second timelines-1, or twice its quota", "bound_per_s": 250.0, "then": "the machine"}]


def test_relieving_the_machine_names_what_limits_then():
    """Twice the cores would give 500/s, but the event loop is full at 333/s."""
    row = {"ok_per_s": 100.0, "cores": {"timelines-1": 0.3, "cassandra-1": 0.5}}
    analysis = bottleneck.document(row, loader.load("steady_home"), _idle())

    assert (analysis["name"], analysis["bound_per_s"]) == ("the machine", 250.0)
    assert analysis["reliefs"][0] == {"change": "twice the cores", "bound_per_s": 333.3, "then": "timelines-1"}
    assert {"change": "half the CPU per operation in cassandra-1", "bound_per_s": 333.3,
            "then": "timelines-1"} in analysis["reliefs"]


def test_a_quota_and_instances_count():
    """0.2 core for each of up to four instances."""
    scenario = loader.load("evening_spike")

    assert bottleneck.capacity_of("timelines-1", scenario) == pytest.approx(0.8)
    assert bottleneck.capacity_of("fanout-1", scenario) == pytest.approx(0.2)
    assert bottleneck.capacity_of("redis-1", scenario) == 1.0
    assert bottleneck.capacity_of("cassandra-1", scenario) == 0.0


def _idle():
    import dataclasses

    return dataclasses.replace(calibration.default(), cores=2.0, background_cores={})
