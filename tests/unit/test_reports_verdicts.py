"""The verdict of a run: its validity first, then its objectives, then its invariants."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reports import facts, summary
from reports.judge import objectives, run_verdict, validity, verdict
from tests.helpers import report_runs


def judged(given: facts.Facts) -> run_verdict.Judgment:
    return run_verdict.judge(given, summary.summarize(given))


def broken(judgement: run_verdict.Judgment) -> list[str]:
    return [one["name"] for one in judgement.validity["criteria"] if one["holds"] is False]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "unknown"], "unknown"),
        (["unknown", "fail", "pass"], "fail"),
        ([], "unknown"),
        (["pass", "parrot"], "unknown"),
    ],
)
def test_the_worst_part_decides_and_no_parts_are_unknown(parts: list[str], expected: str) -> None:
    """pass < unknown < fail; unknown for no parts and for an invalid verdict."""
    assert verdict.merge(parts) == expected


@pytest.mark.parametrize(("word", "code"), [("PASS", 0), ("FAIL", 1), ("UNKNOWN", 2), ("VOID", 3)])
def test_each_verdict_has_its_exit_code(word: str, code: int) -> None:
    """0 pass, 1 fail, 2 unknown, 3 void."""
    assert verdict.exit_code(word) == code


def test_a_quiet_run_is_valid_and_passes() -> None:
    """No criterion is broken; four objectives and six invariants hold."""
    found = judged(report_runs.quiet())
    assert (found.validity["verdict"], found.verdict, found.exit_code) == ("VALID", "PASS", 0)
    assert found.decided_by == "4 objectives and 6 invariants hold."
    assert broken(found) == []


def test_a_generator_above_80_percent_of_a_core_voids_the_run() -> None:
    """93 % of a core: VOID, exit 3, with value, bound and fix."""
    found = judged(report_runs.void())
    assert (found.verdict, found.exit_code) == ("VOID", 3)
    assert found.decided_by == (
        "generator CPU: 93.0% (bound <= 80% of a core); lower workload.rate, or run the generator on more cores."
    )


@pytest.mark.parametrize(
    ("changes", "criterion"),
    [
        ({"generator": facts.Generator(0.3, 0, smoke_ok=False, smoke_note="sign-up answered 503")}, "smoke journey"),
        ({"generator": facts.Generator(0.3, 4, smoke_ok=True)}, "samples lost"),
        ({"generator": facts.Generator(None, 0, smoke_ok=True)}, "generator CPU"),
        ({"host": {"cores": 2, "steal": 0.02}}, "steal time"),
        ({"host": {"cores": 2}}, "steal time"),
        ({"interrupted": True}, "ran to its end"),
        ({"faults": [{"kind": "kill", "target": "redis-1", "void": "the process lived on"}]}, "faults without effect"),
    ],
)
def test_a_run_that_cannot_be_trusted_is_void(changes: dict, criterion: str) -> None:
    """Each broken criterion alone voids the run, and so does a fact that was not recorded."""
    found = judged(report_runs.quiet(**changes))
    assert (found.verdict, broken(found)) == ("VOID", [criterion])


def test_empty_pages_void_the_run() -> None:
    """Without follows, reads are fast and prove nothing."""
    rows = report_runs.history()
    found = judged(report_runs.quiet(history=rows.assign(page_ids=None)))
    assert (found.verdict, broken(found)) == ("VOID", ["empty home pages"])


def test_a_late_generator_voids_the_run() -> None:
    """A start lag p99 of 8 ms exceeds the bound of 3 ms if the reported p99 is about 35 ms."""
    rows = report_runs.history()
    late = rows.assign(sent_ns=rows["sent_ns"] + 6_000_000, done_ns=rows["done_ns"] + 6_000_000)
    found = judged(report_runs.quiet(history=late))
    assert (found.verdict, broken(found)) == ("VOID", ["start lag p99"])


def test_the_same_lag_is_allowed_if_the_latency_is_high() -> None:
    """8 ms are within 5 % of a p99 of about 400 ms."""
    rows = report_runs.history(slow=12.0)
    late = rows.assign(sent_ns=rows["sent_ns"] + 6_000_000, done_ns=rows["done_ns"] + 6_000_000)
    assert "start lag p99" not in broken(judged(report_runs.quiet(history=late)))


def test_a_growing_queue_is_overload_and_not_void() -> None:
    """The backlog grows by a sixth of each second: OVERLOADED, the numbers are valid, the objective FAILs."""
    found = judged(report_runs.overloaded())
    assert (found.validity["verdict"], found.verdict, found.exit_code) == ("OVERLOADED", "FAIL", 1)
    assert broken(found) == ["growth of the queue over a stage"]


def test_low_goodput_is_overload() -> None:
    """2 % of the steady operations fail: goodput is below 99 % of the offered load."""
    rows = report_runs.history()
    refused = np.where(rows["op"] % 50 == 0, "fail", "ok")
    found = judged(report_runs.quiet(history=rows.assign(outcome=refused), objectives=()))
    assert (found.validity["verdict"], broken(found)) == ("OVERLOADED", ["goodput (steady)"])


def test_a_transient_burst_is_no_overload() -> None:
    """The queue after a cache loss is not part of steady time."""
    assert judged(report_runs.quiet()).validity["verdict"] == "VALID"


def test_a_ramp_is_not_tested_for_a_growing_queue() -> None:
    """More operations in flight at a higher rate are no overload; the criterion is not judged."""
    given = report_runs.overloaded()
    ramp = dataclasses.replace(given.windows, stages=(facts.Stage(0.0, 60.0, 20.0, 100.0),))
    criteria = judged(dataclasses.replace(given, windows=ramp)).validity["criteria"]
    assert [one["holds"] for one in criteria if one["name"] == "growth of the queue over a stage"] == [None]


def test_unattributed_cpu_is_a_note() -> None:
    """A fifth of the host's busy time without a process is reported and does not void the run."""
    nodes = dict(report_runs.NODES)
    series = report_runs.series(nodes=nodes)
    hidden = series["name"].eq("cpu_cores") & series["node"].eq("gateway-1")
    found = judged(report_runs.quiet(series=series[~hidden]))
    assert (found.verdict, broken(found)) == ("PASS", ["CPU accounts do not close"])


def test_a_twin_needs_no_generator() -> None:
    """A simulated run has no generator, host or steal time; those criteria are omitted."""
    found = judged(report_runs.twin(objectives=report_runs.OBJECTIVES[:3]))
    assert (found.validity["verdict"], found.verdict) == ("VALID", "PASS")
    assert "generator CPU" not in [one["name"] for one in found.validity["criteria"]]


def test_a_lost_tweet_fails_the_run_and_is_named() -> None:
    """One violated invariant: FAIL, exit 1, and the sentence contains the violation."""
    found = judged(report_runs.failing())
    assert (found.validity["verdict"], found.verdict, found.exit_code) == ("VALID", "FAIL", 1)
    assert found.decided_by.startswith("no acknowledged tweet lost does not hold: tweet 1900000000000000042 of polly")


def test_an_invariant_that_checked_nothing_is_unknown() -> None:
    """A pass with 0 checked operations is unknown, and so is the run."""
    found = judged(report_runs.unknown())
    assert (found.verdict, found.exit_code) == ("UNKNOWN", 2)
    assert found.decided_by == (
        "no ghost after delete or unfollow is unknown: no operation could be checked."
    )


def test_a_run_without_objectives_and_invariants_is_unknown() -> None:
    """There is nothing to judge."""
    found = judged(report_runs.quiet(objectives=(), invariants=()))
    assert found.verdict == "UNKNOWN"
    assert found.decided_by.startswith("Nothing to judge")


def results(given: facts.Facts, *specified: facts.Objective) -> list[dict]:
    return objectives.judge(dataclasses.replace(given, objectives=specified), summary.summarize(given))


def test_the_result_of_an_objective_has_value_bound_window_and_count() -> None:
    """`errors` of a run without errors: 0 of 3600 in the whole run."""
    (one,) = results(report_runs.quiet(), facts.Objective("all", "errors", "<", 0.005, "whole"))
    assert one["text"] == "errors < 0.5 % whole"
    assert (one["verdict"], one["value"], one["bound"], one["window"], one["n"]) == ("pass", 0.0, 0.005, "whole", 3600)


def test_a_window_with_too_few_operations_is_unknown() -> None:
    """180 home reads in the 5 s of a fault are too few for p99.9."""
    (one,) = results(report_runs.quiet(), facts.Objective("home", "p999", "<=", 9.0, "during fault"))
    assert one["verdict"] == "unknown"
    assert one["note"].endswith("operations in the window; 1000 are needed")


def test_an_objective_about_a_fault_that_did_not_happen_is_unknown() -> None:
    """Without a fault there is no window after it."""
    calm = dataclasses.replace(report_runs.quiet(), windows=facts.Windows(report_runs.START_NS, 10.0, 60.0))
    (one,) = results(calm, facts.Objective("home", "p99", "<=", 0.25, "after fault", 10.0))
    assert (one["verdict"], one["note"]) == ("unknown", "no fault happened")


def test_after_fault_starts_at_the_allowed_recovery_time() -> None:
    """Reads are slow for 5 s after the loss: `within 10 s` holds, `within 0 s` does not."""
    late, soon = results(
        report_runs.quiet(),
        facts.Objective("home", "p99", "<=", 0.06, "after fault", 10.0),
        facts.Objective("home", "p99", "<=", 0.06, "after fault", 0.0),
    )
    assert (late["verdict"], soon["verdict"]) == ("pass", "fail")


def test_a_delivery_objective_is_unknown_unless_all_probes_agree() -> None:
    """Late probes make the objective unknown, whatever its figure."""
    given = report_runs.quiet()
    late = report_runs.probes(given.effects, late_ms=300.0)
    (one,) = results(dataclasses.replace(given, probes=late), report_runs.OBJECTIVES[3])
    assert (one["verdict"], one["value"]) == ("unknown", None)
    assert one["note"].startswith("API probes confirm 0 of ")


def test_goodput_is_a_share_of_the_planned_operations() -> None:
    """If every operation succeeds, goodput is 1."""
    (one,) = results(report_runs.quiet(), facts.Objective("post", "goodput", ">=", 0.99, "whole"))
    assert (one["verdict"], one["value"], one["unit"]) == ("pass", 1.0, "share")


def test_an_unknown_metric_is_unknown_and_names_the_known_ones() -> None:
    """A metric that is not measured does not pass."""
    (one,) = results(report_runs.quiet(), facts.Objective("home", "wingspan", "<=", 1.0))
    assert one["verdict"] == "unknown"
    assert "known are p50, p90" in one["note"]


def test_a_stable_queue_does_not_rise() -> None:
    """At constant rate and latency the slope of the number in flight is not significantly positive."""
    from reports import columns, operations

    rows = columns.conform("history", report_runs.history(dip_s=1000.0))
    done = operations.operations(rows, report_runs.START_NS)
    assert validity.rise_s(done, operations.Span(10.0, 60.0)) == 0.0
