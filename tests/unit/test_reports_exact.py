"""Shares, counts and integer nanoseconds are compared with bounds as written, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import pandas as pd
import pytest

from bench.selfchecks import bounds_selfcheck
from reports import facts, summary
from reports.judge import objectives, run_verdict, validity
from reports.page.render import criterion, objective
from reports.stats import histogram
from scenarios import bounds, loader, units, vocabulary
from scenarios import objectives as written
from tests.helpers import report_runs


def verdict_of(text: str, rows: pd.DataFrame) -> dict:
    given = report_runs.quiet(history=rows, objectives=(written.parse(text, vocabulary.ROUTES),))
    (one,) = objectives.judge(given, summary.summarize(given))
    return one


@pytest.mark.parametrize(
    ("text", "total", "failed", "verdict"),
    [
        ("errors <= 1 % whole", 100, 1, "pass"),
        ("errors < 1 % whole", 100, 1, "fail"),
        ("goodput >= 99.9 % whole", 1000, 1, "pass"),
        ("goodput > 99.9 % whole", 1000, 1, "fail"),
        ("errors < 7 % whole", 1000, 70, "fail"),
        ("errors <= 7 % whole", 1000, 70, "pass"),
        ("errors <= 0.07 % whole", 10_000, 7, "pass"),
        ("errors <= 29 % whole", 100, 29, "pass"),
        ("errors <= 28.999999999999999999 % whole", 100, 29, "fail"),
    ],
)
def test_a_share_at_its_bound_is_compared_exactly(
    text: str, total: int, failed: int, verdict: str
) -> None:
    """failed * 100 <= bound * total, in integers. Compare k6 #5316 and Hyperfoil #91."""
    assert verdict_of(text, report_runs.counted(total, failed))["verdict"] == verdict


def test_ten_thousand_random_bounds_are_compared_exactly() -> None:
    """The benchmark row exact_bounds_wrong is 0."""
    assert bounds_selfcheck.exact_bounds_wrong() == 0


def test_a_bound_is_stored_exactly_as_written() -> None:
    """0.07 % is 7 of 10,000, without float error."""
    assert written.parse("errors <= 0.07 %", ()).bound == Fraction(7, 10_000)
    assert written.parse("home p99 <= 250.1 ms", ("home",)).bound == Fraction(2501, 10_000)
    assert units.exact_s("0.3 us") == Fraction(3, 10_000_000)


def test_a_float_bound_is_taken_as_its_shortest_decimal() -> None:
    """Objectives that are created in Python, not read from a file, are exact, too."""
    given = report_runs.quiet(
        history=report_runs.counted(1000, 70),
        objectives=(facts.Objective("all", "errors", "<=", 0.07, "whole"),),
    )
    (one,) = objectives.judge(given, summary.summarize(given))
    assert one["verdict"] == "pass"


@pytest.mark.parametrize(("extra_ns", "verdict"), [(0, "pass"), (1, "fail")])
def test_one_nanosecond_above_the_bound_fails(extra_ns: int, verdict: str) -> None:
    """Response times are integer nanoseconds, compared with 250.1 ms without rounding."""
    rows = report_runs.counted(1000, 0, 250.1)
    found = verdict_of("home max <= 250.1 ms whole", rows.assign(done_ns=rows["done_ns"] + extra_ns))
    assert found["verdict"] == verdict


def test_a_value_that_rounds_to_its_bound_is_shown_with_more_digits() -> None:
    """FAIL with `250 ms, bound 250 ms` would be misleading."""
    rows = report_runs.counted(1000, 0, 250.0)
    found = verdict_of("home max <= 250 ms whole", rows.assign(done_ns=rows["done_ns"] + 1000))
    assert (found["verdict"], objective(found)) == ("fail", "250.001 ms")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_meet_no_upper_bound(value: float) -> None:
    """The comparison does not raise."""
    assert not bounds.holds(value, "<=", Fraction(1, 4))


@pytest.mark.parametrize(("steal", "holds"), [(0.01, True), (0.010000000000000002, False), (0.0099, True)])
def test_steal_time_is_compared_with_its_bound_unrounded(steal: float, holds: bool) -> None:
    """A measured float is compared as its shortest decimal, without rounding."""
    given = report_runs.quiet(host={"cores": 2, "steal": steal})
    found = run_verdict.judge(given, summary.summarize(given))
    (one,) = [each for each in found.validity["criteria"] if each["name"] == "steal time"]
    assert one["holds"] is holds
    assert (criterion(one) == "1.0 %") is (steal == 0.01)


@pytest.mark.parametrize(("lag_ns", "holds"), [(3_000_000, True), (3_000_001, False)])
def test_start_lag_is_compared_in_nanoseconds(lag_ns: int, holds: bool) -> None:
    """3.000001 ms is above 3 ms, although both are equal to 4 digits."""
    rows = report_runs.counted(1000, 0, 20.0)
    given = report_runs.quiet(history=rows.assign(sent_ns=rows["due_ns"] + lag_ns))
    found = validity.judge(given, summary.summarize(given))
    (one,) = [each for each in found["criteria"] if each["name"] == "start lag p99"]
    assert one["holds"] is holds


def test_start_lag_may_be_exactly_a_twentieth_of_the_p99() -> None:
    """5 % of 107 ms is 5.35 ms, but not in float arithmetic."""
    rows = report_runs.counted(1000, 0, 107.0)
    given = report_runs.quiet(history=rows.assign(sent_ns=rows["due_ns"] + 5_350_000))
    found = validity.judge(given, summary.summarize(given))
    (one,) = [each for each in found["criteria"] if each["name"] == "start lag p99"]
    assert one["holds"] is True


@pytest.mark.parametrize(("failed", "holds"), [(10, True), (11, False)])
def test_goodput_at_its_bound_is_no_overload(failed: int, holds: bool) -> None:
    """990 of 1,000 are exactly 99 %."""
    calm = facts.Windows(report_runs.START_NS, 0.0, 60.0)
    given = report_runs.quiet(history=report_runs.counted(1000, failed), windows=calm, faults=())
    found = validity.judge(given, summary.summarize(given))
    (one,) = [each for each in found["criteria"] if each["name"] == "goodput (steady)"]
    assert one["holds"] is holds


@pytest.mark.parametrize(
    ("n", "quantile", "rank"), [(100, 0.99, 99), (1000, 0.07, 70), (10, 0.999, 10), (3, 0.5, 2)]
)
def test_the_nearest_rank_is_computed_exactly(n: int, quantile: float, rank: int) -> None:
    """ceil(0.07 * 1000) is 70, not 71."""
    assert histogram.rank(n, quantile) == rank


def test_every_quantity_is_the_float_nearest_to_its_text() -> None:
    """0.07 % is 0.0007, not 0.0007000000000000001."""
    assert units.share("0.07 %") == 0.0007
    assert units.duration_s("0.3 ms") == 0.0003


def test_a_scenario_with_exact_bounds_resolves_to_plain_json() -> None:
    """The record of a run contains the bound as a number."""
    resolved = loader.load("first_run").resolved()
    assert [one["bound"] for one in resolved["objectives"]] == [0.25, 0.005, 0.25, 2.0]
