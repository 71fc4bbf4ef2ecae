"""Quantities carry their unit; objectives read as one line."""

from fractions import Fraction

import pytest

from scenarios import objectives, units, vocabulary


@pytest.mark.parametrize(("reader", "text", "value"), [
    (units.duration_s, "20 s", 20), (units.duration_s, "250 ms", 0.25), (units.duration_s, "2 min", 120),
    (units.duration_s, 0, 0), (units.rate_per_s, "100/s", 100), (units.rate_per_s, "1 200 /min", 20),
    (units.share, "0.5 %", 0.005), (units.memory_mib, "2 GiB", 2048), (units.ramp_per_s, "100/s..400/s", (100, 400)),
    (units.ramp_per_s, "30/min", (0.5, 0.5)), (units.counting("tweets"), "20 tweets", 20), (units.counting("tweets"), 7, 7),
])
def test_a_quantity_is_read_in_si(reader, text, value):
    """Seconds, operations a second, fractions, MiB."""
    assert reader(text) == pytest.approx(value)


@pytest.mark.parametrize(("reader", "text"), [
    (units.duration_s, 20), (units.duration_s, "20"), (units.duration_s, "20 sec"), (units.duration_s, "s"),
    (units.rate_per_s, "100 s"), (units.share, "101 %"), (units.share, 0.5), (units.memory_mib, "2 GB"),
    (units.ramp_per_s, "100/s..fast"), (units.counting("tweets"), "2.5 tweets"),
    (units.duration_s, True), (units.duration_s, None),
])
def test_a_quantity_without_its_unit_is_refused(reader, text):
    """`for: 20` could be seconds or minutes."""
    with pytest.raises(units.UnitError):
        reader(text)


@pytest.mark.parametrize(("text", "expected"), [
    ("home p99 <= 250 ms steady", ("home", "p99", "<=", 0.25, "steady", None, False)),
    ("errors < 0.5 % whole", ("all", "errors", "<", Fraction("0.005"), "whole", None, False)),
    ("home p99 <= 250 ms after fault within 20 s", ("home", "p99", "<=", 0.25, "after fault", 20.0, False)),
    ("p99.9 < 1 s", ("all", "p999", "<", 1.0, "steady", None, False)),
    ("post goodput >= 99 % during fault",
     ("post", "goodput", ">=", Fraction("0.99"), "during fault", None, False)),
    ("delivery p99 <= 1 s whole", ("delivery", "p99", "<=", 1.0, "whole", None, False)),
    ("errors < 50 % whole abort", ("all", "errors", "<", 0.5, "whole", None, True)),
])
def test_an_objective_is_read_into_route_metric_bound_and_window(text, expected):
    """The window defaults to `steady`; bounds are in SI."""
    found = objectives.parse(text, vocabulary.ROUTES)

    assert (found.route, found.metric, found.op, found.bound, found.window, found.within_s, found.abort) == expected
    assert found.text == text


def test_a_value_that_is_not_a_number_keeps_no_promise():
    """An objective over an empty window is never held by accident."""
    bound = objectives.parse("home p99 <= 250 ms", vocabulary.ROUTES)

    assert bound.holds(0.25)
    assert not bound.holds(0.2501)
    assert not bound.holds(float("nan"))
