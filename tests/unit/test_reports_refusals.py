"""Refusals that the scenario configures count neither as slow nor as errors nor as overload; overload does not pass."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from reports import exports, facts, finish, summary
from reports.judge import refusals, run_verdict
from scenarios import loader
from scenarios import objectives as written
from system.kernel.errors import WrongInput
from tests.helpers import report_runs
from tweetlab.commands import run as running
from tweetlab.load import capacity

LIMITED = {"resolved": {"policies": {"limits": {"window_s": 10.0, "read": 12}}}}


def refused(n: int, every: int, limits: dict | None = None, status: int = 429) -> facts.Facts:
    """Return a run of `n` home reads of which each `every`-th is refused with 429 after 1 ms; no faults."""
    rows = report_runs.counted(n, 0)
    hit = rows["op"] % every == 0
    rows = rows.assign(
        outcome=np.where(hit, "fail", "ok"),
        status=np.where(hit, status, 200),
        error=np.where(hit, f"HTTP {status}", ""),
        done_ns=np.where(hit, rows["due_ns"] + 1_000_000, rows["done_ns"]),
    )
    windows = facts.Windows(report_runs.START_NS, 0.0, 60.0, (), (facts.Stage(0.0, 60.0, 20.0, 20.0),))
    return report_runs.quiet(
        history=rows, windows=windows, faults=(), scenario_doc=LIMITED if limits is None else limits
    )


def judged(given: facts.Facts, *lines: str) -> run_verdict.Judgment:
    given = dataclasses.replace(given, objectives=tuple(written.parse(line, ("home",)) for line in lines))
    return run_verdict.judge(given, summary.summarize(given))


def test_refusals_under_the_scenarios_own_limits_are_a_share_of_their_own() -> None:
    """One read in five is refused: no errors, no slow reads, no overload; `refused` is 20 %."""
    found = judged(
        refused(1000, 5),
        "home p99 <= 20 ms",
        "errors < 0.1 %",
        "goodput >= 100 %",
        "refused <= 20 %",
        "refused < 20 %",
    )
    assert [one["verdict"] for one in found.objectives] == ["pass", "pass", "pass", "pass", "fail"]
    assert found.validity["verdict"] == "VALID"
    assert [one["n"] for one in found.objectives] == [800, 800, 800, 1000, 1000]


def test_errors_notes_that_it_excludes_refusals() -> None:
    """The excluded count is in the note and in the record."""
    (one,) = judged(refused(1000, 5), "errors < 0.1 %").objectives
    assert one["note"] == "200 refusals (429) under the scenario's own limits are excluded"
    assert one["refused"] == 200


def test_every_format_shows_the_excluded_refusals(tmp_path: Path) -> None:
    """Page, Markdown and console show the note."""
    given = refused(1000, 5)
    line = written.parse("errors < 0.1 %", ())
    run = finish.finish(tmp_path, dataclasses.replace(given, objectives=(line,)))
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "200 refusals (429)" in html
    assert "200 refusals (429)" in exports.markdown(run)
    assert "200 refusals (429)" in running.summary_lines(run).plain


def test_a_fast_refusal_does_not_make_reads_faster() -> None:
    """With nine refusals of 1 ms in ten reads, the median is that of the accepted reads."""
    rows = refused(1000, 1)
    slow = rows.history.assign(outcome=np.where(rows.history["op"] % 10 == 0, "ok", "fail"))
    slow = slow.assign(
        status=np.where(slow["outcome"] == "ok", 200, 429), done_ns=slow["due_ns"] + 20_000_000
    )
    (one,) = judged(dataclasses.replace(rows, history=slow), "home p50 <= 250 ms").objectives
    assert (one["value"], one["n"], one["refused"]) == (0.02, 100, 900)


@pytest.mark.parametrize(
    ("limits", "status"),
    [
        ({}, 429),
        ({"resolved": {"policies": {"limits": refusals.DEFAULTS}}}, 429),
        (LIMITED, 503),
        ({"resolved": {"policies": {"limits": {"window_s": 0.0, "read": 12}}}}, 429),
    ],
)
def test_unconfigured_429s_and_other_refusals_are_errors(limits: dict, status: int) -> None:
    """Default limits, a window of 0 (no limit), and load shedding with 503."""
    found = judged(refused(1000, 5, limits, status), "errors < 10 %", "home p99 <= 1 s")
    assert [one["verdict"] for one in found.objectives] == ["fail", "fail"]
    assert found.validity["verdict"] == "OVERLOADED"


def test_refusals_have_their_own_column_on_the_page(tmp_path: Path) -> None:
    """They are not among the failed operations, and a headline number shows their share."""
    run = finish.finish(tmp_path, refused(1000, 5))
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert '<th class="n">Refused</th>' in html
    assert "<b>20.0 %</b><span>refused (429) under the scenario&#39;s own limits</span>" in html
    totals = run.document["summary"]["totals"]
    assert (totals["planned"], totals["ok"], totals["fail"], totals["refused"]) == (1000, 800, 200, 200)


def test_the_search_for_capacity_does_not_count_refusals(tmp_path: Path) -> None:
    """Refusals by the scenario's rate limits do not lower the measured capacity."""
    trial = capacity.trial_of(finish.finish(tmp_path, refused(1000, 5)).document, 20.0)
    assert (trial.goodput, trial.errors) == (1.0, 0.0)


# ---- overload ----


def overloaded(**changes: object) -> facts.Facts:
    """Return a run with a growing queue whose objectives hold nevertheless."""
    given = report_runs.overloaded()
    holds = (facts.Objective("home", "p99", "<=", 60.0),)
    return dataclasses.replace(given, **{"objectives": holds, **changes})


def test_an_overloaded_run_whose_objectives_hold_is_unknown_and_names_the_criterion() -> None:
    """Exit 2: the offered load exceeded capacity."""
    given = overloaded()
    found = run_verdict.judge(given, summary.summarize(given))
    assert [one["verdict"] for one in found.objectives] == ["pass"]
    assert (found.validity["verdict"], found.verdict, found.exit_code) == ("OVERLOADED", "UNKNOWN", 2)
    assert "growth of the queue over a stage: 7.3" in found.decided_by
    assert "expect_overload: true" in found.decided_by


def test_an_expected_overload_can_pass() -> None:
    """The scenario sets `expect_overload: true`."""
    given = overloaded(scenario_doc={"resolved": {"expect_overload": True}})
    found = run_verdict.judge(given, summary.summarize(given))
    assert (found.validity["verdict"], found.verdict, found.exit_code) == ("OVERLOADED", "PASS", 0)
    assert "OVERLOADED, as the scenario expects" in found.decided_by


def test_an_expected_overload_excuses_no_objective() -> None:
    """FAIL stays FAIL, and unknown stays unknown."""
    failing = overloaded(
        scenario_doc={"resolved": {"expect_overload": True}},
        objectives=(facts.Objective("home", "p99", "<=", 0.25),),
    )
    assert run_verdict.judge(failing, summary.summarize(failing)).verdict == "FAIL"
    nothing = overloaded(scenario_doc={"resolved": {"expect_overload": True}}, objectives=(), invariants=())
    assert run_verdict.judge(nothing, summary.summarize(nothing)).verdict == "UNKNOWN"


def test_an_overloaded_run_that_fails_is_a_failure() -> None:
    """Overload explains a missed objective but does not excuse it."""
    given = report_runs.overloaded()
    found = run_verdict.judge(given, summary.summarize(given))
    assert (found.verdict, found.exit_code) == ("FAIL", 1)
    assert found.decided_by.startswith("home p99 <= 250 ms steady does not hold")


def test_an_unknown_run_names_the_overload_and_the_unknown_part() -> None:
    """The criterion comes first, then the part."""
    idle = {"name": "unique_ids", "verdict": "pass", "checked": 0, "violations": [], "note": ""}
    given = overloaded(invariants=(idle,))
    found = run_verdict.judge(given, summary.summarize(given))
    assert found.decided_by.startswith("The run is OVERLOADED")
    assert "unique ids" in found.decided_by


def test_a_scenario_declares_whether_it_expects_an_overload(tmp_path: Path) -> None:
    """The key is true or false, and false by default."""
    assert loader.load("first_run").expect_overload is False
    assert loader.load("first_run", ["expect_overload=true"]).resolved()["expect_overload"] is True
    with pytest.raises(WrongInput, match="expect_overload"):
        loader.load("first_run", ["expect_overload=perhaps"])


def test_a_refused_share_can_be_an_objective() -> None:
    """`refused <= 10 % whole` is parsed like any other share."""
    found = written.parse("home refused <= 10 % whole", ("home",))
    assert (found.route, found.metric, float(found.bound)) == ("home", "refused", 0.1)


def test_an_overload_is_an_error_in_junit_and_no_failure(tmp_path: Path) -> None:
    """A CI server must not be green, although the system did not fail."""
    text = exports.junit(finish.finish(tmp_path, overloaded()))
    assert 'failures="0" errors="1"' in text
