"""Quantities have units; an objective is one line."""

from fractions import Fraction

import pytest

from scenarios import loader, objectives, units, vocabulary
from tweetlab.commands import options


@pytest.mark.parametrize(("reader", "text", "value"), [
    (units.duration_s, "20 s", 20), (units.duration_s, "250 ms", 0.25), (units.duration_s, "2 min", 120),
    (units.duration_s, 0, 0), (units.rate_per_s, "100/s", 100), (units.rate_per_s, "1 200 /min", 20),
    (units.share, "0.5 %", 0.005), (units.memory_mib, "2 GiB", 2048), (units.ramp_per_s, "100/s..400/s", (100, 400)),
    (units.ramp_per_s, "30/min", (0.5, 0.5)), (units.counting("tweets"), "20 tweets", 20), (units.counting("tweets"), 7, 7),
])
def test_a_quantity_is_parsed_into_si(reader, text, value):
    """Seconds, operations per second, fractions, MiB."""
    assert reader(text) == pytest.approx(value)


@pytest.mark.parametrize(("text", "seconds"), [
    ("5m", 300), ("5 m", 300), ("5min", 300), ("1h30m", 5400), ("1h 30m", 5400), ("1 h 30 min", 5400),
    ("1m30s", 90), ("1.5h", 5400), (".5s", 0.5), ("500ms", 0.5), ("250us", 0.00025), ("250\u00b5s", 0.00025),
    ("250\u03bcs", 0.00025),
    ("100ns", 1e-7), ("1d12h", 129_600), ("2w", 1_209_600), ("1s500ms", 1.5), ("1.1 min", 66), ("90s", 90),
])
def test_a_duration_is_parsed_as_in_go_k6_and_prometheus(text, seconds):
    """With or without blanks, `m` is minutes, parts go from large to small, and the value is rounded once."""
    assert units.duration_s(text) == seconds


@pytest.mark.parametrize("read", [
    lambda text: loader.load("first_run", [f"workload.stages.0.for={text}"]).workload.load_s,
    lambda text: objectives.parse(f"home p99 <= {text} whole", vocabulary.ROUTES).bound,
    lambda text: objectives.parse(f"errors < 1 % after fault within {text}", vocabulary.ROUTES).within_s,
    lambda text: options.duration_s("--since", text),
], ids=["scenario", "bound", "within", "command line"])
@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("1h30m", 5400), ("1m30s", 90), ("1.5h", 5400),
                                               ("2 min", 120)])
def test_m_is_minutes_wherever_a_duration_is_read(read, text, seconds):
    """In a file, by `--set`, in both places of an objective, in an option."""
    assert read(text) == seconds


@pytest.mark.parametrize(("text", "reason"), [
    ("5M", "ms, s, m, min, h, d, w"), ("1mo", "ms, s, m, min, h, d, w"), ("1y", "ms, s, m, min, h, d, w"),
    ("3 sec", 'Did you mean "s"?'), ("2 minutes", 'Did you mean "min"?'), ("1 hour", 'Did you mean "h"?'),
    ("30m1h", "from the largest unit to the smallest"), ("1m1m", "each unit once"),
    ("1m1min", "each unit once"),
    ("1h30", "such as `20 s`"), ("-5m", "such as `20 s`"), ("5 m 3", "such as `20 s`"),
    ("1h30x", "units: ns, us"),
])
def test_a_unit_that_is_unknown_or_ambiguous_is_refused_with_the_known_ones(text, reason):
    """`M` and `mo` are as close to months as to minutes, so nothing is guessed."""
    with pytest.raises(units.UnitError) as caught:
        units.duration_s(text)

    assert reason in str(caught.value)
    assert repr(text) in str(caught.value)


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
def test_an_objective_is_parsed_into_route_metric_bound_and_window(text, expected):
    """The window defaults to `steady`; bounds are in SI."""
    objective = objectives.parse(text, vocabulary.ROUTES)

    assert (objective.route, objective.metric, objective.op, objective.bound, objective.window, objective.within_s,
            objective.abort) == expected
    assert objective.text == text


def test_nan_meets_no_objective():
    """An objective over an empty window is never met by accident."""
    bound = objectives.parse("home p99 <= 250 ms", vocabulary.ROUTES)

    assert bound.holds(0.25)
    assert not bound.holds(0.2501)
    assert not bound.holds(float("nan"))
