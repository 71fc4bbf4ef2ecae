"""Percentiles that decide a verdict cover every operation due: they cannot improve by failures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports import columns, delivery, exports, facts, finish, operations, record, summary
from reports.judge import objectives, over_due, run_verdict
from reports.page import render
from reports.stats import compare, effect_size, histogram
from scenarios import objectives as written
from scenarios import vocabulary
from tests.helpers import report_runs
from tweetlab.load import capacity


def judged(given: facts.Facts, *lines: str) -> list[dict]:
    parsed = tuple(written.parse(line, vocabulary.ROUTES) for line in lines)
    given = dataclasses.replace(given, objectives=parsed)
    return objectives.judge(given, summary.summarize(given))


def calm(rows: pd.DataFrame, **changes: object) -> facts.Facts:
    """Return a run without faults whose history is `rows`."""
    windows = facts.Windows(report_runs.START_NS, 0.0, 60.0, (), (facts.Stage(0.0, 60.0, 20.0, 20.0),))
    return report_runs.quiet(history=rows, windows=windows, faults=(), **changes)


def quantile(metric: str, answered: list[int], observed: list[int]) -> over_due.Quantile:
    return over_due.quantile(metric, np.array(answered, dtype=np.int64), np.array(observed, dtype=np.int64))


def test_sixty_percent_failures_and_fast_successes_do_not_pass() -> None:
    """ghz #248, vegeta PR 404: the percentile of the successes alone is 20 ms."""
    given = calm(report_runs.counted(1000, 600), objectives=(written.parse("home p99 <= 250 ms", ("home",)),))
    found = run_verdict.judge(given, summary.summarize(given))
    (one,) = found.objectives
    assert (found.verdict, found.exit_code) == ("FAIL", 1)
    assert (one["verdict"], one["value"], one["n"], one["unanswered"]) == ("fail", None, 1000, 600)
    assert (
        one["note"]
        == "600 of 1,000 failed, had no answer or an unknown outcome and count as slower than any bound"
    )


def test_a_percentile_among_failures_is_shown_as_a_lower_bound(tmp_path: Path) -> None:
    """In the record: null, with at_least. On the page, in Markdown and in JUnit: `> 59.4 s`."""
    given = calm(report_runs.counted(1000, 990), objectives=(written.parse("home p99 <= 250 ms", ("home",)),))
    run = finish.finish(tmp_path, given)
    (one,) = run.document["objectives"]
    assert one["value"] is None
    assert one["at_least"] == pytest.approx(59.4, abs=0.7)
    shown = render.objective(one)
    assert shown.startswith("> 59")
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert f"&gt; {shown[2:]}" in html
    assert f"| home p99 <= 250 ms | ✗ fail | {shown} | 1000 |" in exports.markdown(run)
    assert f"measured &gt; {shown[2:]} of 1000" in exports.junit(run)


@pytest.mark.parametrize("outcome", ["fail", "info"])
def test_failed_and_unknown_operations_count_as_slower_than_any_bound(outcome: str) -> None:
    """Two of a hundred that did not succeed determine the p99, however fast their response was."""
    rows = report_runs.counted(100, 0)
    rows.loc[[10, 60], "outcome"] = outcome
    (one,) = judged(calm(rows), "home p99 <= 250 ms whole")
    assert (one["verdict"], one["value"]) == ("fail", None)


def test_an_operation_that_was_never_sent_or_answered_counts_as_slow() -> None:
    """Its sent_ns and done_ns are 0."""
    rows = report_runs.counted(100, 0)
    rows.loc[[10, 60], ["outcome", "sent_ns", "done_ns"]] = ["info", 0, 0]
    (one,) = judged(calm(rows), "home p99 <= 250 ms whole")
    assert (one["verdict"], one["value"], one["unanswered"]) == ("fail", None, 2)


def test_one_failure_of_a_hundred_leaves_p99_among_the_successes() -> None:
    """Rank 99 of 100 is the slowest success."""
    (one,) = judged(calm(report_runs.counted(100, 1)), "home p99 <= 20 ms whole")
    assert (one["verdict"], one["value"], one["at_least"]) == ("pass", 0.02, None)


@pytest.mark.parametrize(
    ("metric", "value", "at_least"),
    [("p50", 20, None), ("p90", None, 70), ("max", None, 90), ("mean", None, 50)],
)
def test_failures_are_ordered_last(metric: str, value: int | None, at_least: int | None) -> None:
    """Of 10, 20, 30 and three failures, p50 is a success; the others are failures, ordered by observed time."""
    found = quantile(metric, [30, 10, 20], [80, 90, 70] if metric != "p90" else [60, 65, 70])
    assert (found.value, found.at_least if metric != "p50" else None) == (
        value if metric != "p50" else 30,
        at_least,
    )


def test_a_failure_is_at_least_as_slow_as_the_slowest_success() -> None:
    """A failure just before the end was observed for almost no time."""
    assert quantile("max", [10, 500], [1]).at_least == 500


@pytest.mark.parametrize("metric", histogram.KEYS)
@pytest.mark.parametrize("seed", range(8))
def test_a_percentile_never_improves_when_a_success_becomes_a_failure(metric: str, seed: int) -> None:
    """Whichever operation fails, the figure stays, rises, or has no value."""
    dice = np.random.default_rng(seed)
    took = dice.lognormal(3, 1, 60)
    before = over_due.quantile(metric, took, np.array([])).value
    for at in range(len(took)):
        after = over_due.quantile(metric, np.delete(took, at), np.array([1e9]))
        assert after.value is None or (before is not None and after.value >= before)


def test_a_lower_bound_passes_only_as_far_as_it_was_observed() -> None:
    """`p99 >= 1 s` holds if failures were observed for longer, and is unknown otherwise."""
    held, open_ = judged(
        calm(report_runs.counted(1000, 990)), "home p99 >= 1 s whole", "home p99 >= 300 s whole"
    )
    assert (held["verdict"], open_["verdict"]) == ("pass", "unknown")


def test_of_several_faults_a_failing_window_outranks_an_unknown_one() -> None:
    """pass < unknown < fail applies to the windows of one objective, too."""
    rows = report_runs.counted(6000, 0)
    rows.loc[(rows["due_ns"] >= report_runs.START_NS + 20_000_000_000) & (rows["op"] % 2 == 0), "outcome"] = (
        "fail"
    )
    windows = facts.Windows(
        report_runs.START_NS,
        0.0,
        60.0,
        (
            facts.FaultWindow("kill", "a", 10.0, 10.05, 10.05),
            facts.FaultWindow("kill", "b", 30.0, 40.0, 40.0),
        ),
    )
    given = report_runs.quiet(history=rows, windows=windows)
    (one,) = judged(given, "home p99 <= 250 ms during fault")
    assert one["verdict"] == "fail"


def test_tables_of_ok_only_percentiles_are_labeled_as_such(tmp_path: Path) -> None:
    """The label matters when only 40 % of the operations succeeded."""
    run = finish.finish(tmp_path, calm(report_runs.counted(1000, 600)))
    assert run.document["summary"]["routes"]["home"]["steady"]["response_ms"]["p99"] == 20.0
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "home: response, OK only" in html
    assert "home p99, steady, OK only" in html
    assert "route, steady response in ms, OK only" in exports.markdown(run)


# ---- delivery ----


def test_a_tweet_that_is_not_delivered_counts_as_slower_than_any_bound() -> None:
    """One acknowledged tweet in twenty never reached its followers; p95 of the others is 0.1 s."""
    given = report_runs.quiet()
    assert given.effects is not None
    lost = given.effects["event"].isin(given.effects["event"].unique()[::20])
    (one,) = judged(dataclasses.replace(given, effects=given.effects[~lost]), "delivery p99 <= 1 s whole")
    assert (one["verdict"], one["value"], one["n"], one["unanswered"]) == ("fail", None, 537, 27)
    assert "27 of 537 were not delivered" in one["note"]


def test_a_fan_out_that_never_completes_is_a_failure_not_an_unknown() -> None:
    """Without timestamps there is nothing for probes to confirm, but the tweets are missing."""
    given = report_runs.quiet()
    (one,) = judged(dataclasses.replace(given, effects=None, probes=None), "delivery p99 <= 1 s whole")
    assert (one["verdict"], one["value"]) == ("fail", None)


def test_a_timestamp_of_zero_is_no_delivery() -> None:
    """0 in a column of times means that it did not happen."""
    given = report_runs.quiet()
    assert given.effects is not None
    never = dataclasses.replace(given, effects=given.effects.assign(at_ns=0))
    (one,) = judged(never, "delivery p50 <= 1 s whole")
    assert (one["verdict"], one["value"]) == ("fail", None)
    assert summary.summarize(never)["delivery"]["undelivered"] == 537
    assert summary.summarize(never)["delivery"]["n"] == 0


def test_a_tweet_without_a_timestamp_is_not_due_if_its_author_is_pulled() -> None:
    """A pulled tweet needs no delivery: readers merge the author's list."""
    history = pd.DataFrame(
        {
            "op": range(3),
            "route": "post",
            "user": [5, 5, 6],
            "due_ns": 1,
            "sent_ns": 1,
            "done_ns": [10, 20, 30],
            "outcome": "ok",
            "status": 201,
            "tweet_id": [100, 101, 102],
        }
    )
    stamps = pd.DataFrame({"kind": ["new_tweet"], "event": ["100"], "path": ["pull"], "at_ns": [15]})
    rows = delivery.due(columns.conform("history", history), columns.conform("effects", stamps), 0)
    assert rows["due_ns"].tolist() == [30]  # of user 6, whose tweets have no timestamp


# ---- compare and capacity ----


def side(folder: Path, label: int, failed: int, ms: float = 20.0) -> list[record.Run]:
    runs = []
    for k in range(5):
        rows = report_runs.counted(3000, failed, ms)
        jitter = np.random.default_rng(10 * label + k).lognormal(0, 0.05, len(rows))
        took = ((rows["done_ns"] - rows["due_ns"]) * jitter).astype("int64")
        given = calm(
            rows.assign(done_ns=rows["due_ns"] + took), started_at=f"2026-11-22T18:{2 * k + label:02d}:00Z"
        )
        runs.append(record.write(folder, finish.parts(given)))
    return runs


def test_a_side_that_fails_more_than_half_its_reads_is_slower(tmp_path: Path) -> None:
    """Its successes alone are twice as fast."""
    found = compare.compare(side(tmp_path, 0, 0), side(tmp_path, 1, 1800, ms=10.0))
    row = next(row for row in found.rows if (row.route, row.measure) == ("home", "median"))
    assert (found.answer, row.beyond) == ("changed", (False, True))
    assert row.effect.change > 0
    assert "or more: for B it falls among unanswered operations" in found.reason
    (line,) = [line for line in compare.text(found).splitlines() if line.startswith("| home | median |")]
    assert line.split(" | ")[3].startswith("> ")


def test_two_sides_whose_percentiles_fall_among_failures_cannot_be_compared(tmp_path: Path) -> None:
    """Two lower bounds are inconclusive."""
    found = compare.compare(side(tmp_path, 0, 1800), side(tmp_path, 1, 1800))
    assert found.answer == "cannot tell"
    assert "falls among unanswered operations" in found.reason


def test_compare_uses_the_same_percentiles() -> None:
    """With one unanswered operation in fifty, p99 is a lower bound and the median is a value."""
    took = np.random.default_rng(1).lognormal(3, 0.2, 5000)
    good = np.arange(5000) % 50 != 0
    found = compare.latencies(np.where(good, took, 9e4), np.linspace(0, 60, 5000), good)
    assert [found[name].beyond for name in ("median", "p95", "p99", "spread")] == [False, False, True, True]
    assert isinstance(found["median"], effect_size.Measured)


def test_a_rate_with_failed_reads_is_above_capacity(tmp_path: Path) -> None:
    """The search for capacity uses the verdicts of the same function."""
    given = calm(report_runs.counted(3000, 100), objectives=(written.parse("home p99 <= 250 ms", ("home",)),))
    trial = capacity.trial_of(finish.finish(tmp_path, given).document, 50.0)
    assert not trial.holds
    assert not trial.carried


@pytest.mark.parametrize(("ok", "carried"), [(990, False), (995, False), (996, True)])
def test_errors_at_the_bound_of_the_capacity_search_are_compared_exactly(ok: int, carried: bool) -> None:
    """5 of 1,000 are 0.5 %, which is not less than 0.5 %."""
    calm_counts = {"planned": 1000, "ok": ok, "fail": 1000 - ok, "info": 0, "refused": 0}
    record = {"summary": {"totals": {"steady": calm_counts}}, "validity": {"criteria": []}, "objectives": []}
    assert capacity.trial_of(record, 10.0).carried is carried


def test_the_twin_is_judged_by_the_same_function() -> None:
    """Failed reads of the twin count as slower than any bound, like those of the system."""
    given = report_runs.twin(history=report_runs.counted(1000, 600))
    (one,) = judged(given, "home p99 <= 250 ms whole")
    assert (one["verdict"], one["value"]) == ("fail", None)


def test_operations_have_times_as_integer_nanoseconds() -> None:
    """response_ns and lag_ns are the exact values of response_ms and lag_ms."""
    done = operations.operations(columns.conform("history", report_runs.counted(10, 0)), report_runs.START_NS)
    assert done["response_ns"].tolist() == [20_000_000] * 10
    assert done["lag_ns"].tolist() == [100_000] * 10
