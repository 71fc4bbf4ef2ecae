"""A fault that did not recover fails its run and is named; zone and region faults have RTO and RPO."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from chaos.faults import table
from reports import exports, facts, finish, summary
from reports.judge import recovery, run_verdict, verdict
from reports.page import render
from reports.stats import compare
from scenarios import vocabulary
from tests.helpers import report_runs
from tweetlab.commands import run as running

S = 1_000_000_000
START = report_runs.START_NS
REGION = {
    "kind": "region_loss",
    "target": "east",
    "held": True,
    "void": "",
    "start_ns": START + 20 * S,
    "for_s": 10.0,
    "injected_ns": START + 20 * S,
    "undone_ns": START + 30 * S,
    "recovered_ns": START + 41 * S,
    "recovers_within_s": 150.0,
    "observed_until_ns": START + 41 * S,
}
CACHE = {
    "kind": "cache_loss",
    "target": "redis-1",
    "held": False,
    "void": "",
    "start_ns": START + 30 * S,
    "injected_ns": START + 30 * S,
    "undone_ns": START + 30 * S,
    "recovered_ns": None,
    "recovers_within_s": 20.0,
}
KEPT = (
    {
        "name": "no_acknowledged_tweet_lost",
        "verdict": "pass",
        "checked": 9,
        "violations": [],
        "note": "",
        "kept": {"tweets": {"acknowledged": 512, "lost": 0}, "likes": {"acknowledged": 40, "lost": 2}},
    },
    {
        "name": "unique_ids",
        "verdict": "not_applicable",
        "checked": 0,
        "violations": [],
        "note": "Not applicable: no posts.",
    },
)


def with_faults(*entries, **changes) -> facts.Facts:
    given = report_runs.quiet(**changes)
    windows = facts.fault_windows(entries, START, given.objectives)
    return dataclasses.replace(
        given, faults=entries, windows=dataclasses.replace(given.windows, faults=windows)
    )


def judged(given: facts.Facts) -> run_verdict.Judgment:
    return run_verdict.judge(given, summary.summarize(given))


def failing_between(*spans: tuple[float, float], status: int = 503) -> pd.DataFrame:
    """Return the quiet run's history in which every operation that is due in one of the spans fails."""
    rows = report_runs.history()
    due_s = (rows["due_ns"] - START) / S
    bad = np.logical_or.reduce([(due_s >= low) & (due_s < high) for low, high in spans])
    return rows.assign(outcome=np.where(bad, "fail", "ok"), status=np.where(bad, status, rows["status"]))


def test_a_fault_that_did_not_recover_in_time_fails_the_run_and_is_named() -> None:
    """chaostoolkit-lib #94: every objective holds, but the steady state was not restored: FAIL, exit 1."""
    found = judged(with_faults(CACHE))

    assert [one["verdict"] for one in found.objectives] == ["pass"] * 4
    assert (found.verdict, found.exit_code) == ("FAIL", 1)
    assert found.decided_by == "cache_loss of redis-1 did not recover within 20 s."


def test_every_fault_that_did_not_recover_is_named_first() -> None:
    """A lost tweet is counted, but the sentence names the faults."""
    kill = {
        **CACHE,
        "kind": "kill",
        "target": "users-1",
        "start_ns": START + 5 * S,
        "injected_ns": START + 5 * S,
    }
    lost = report_runs.failing().invariants
    found = judged(with_faults(kill, CACHE, invariants=lost))

    assert found.decided_by == (
        "kill of users-1 did not recover within 20 s; cache_loss of redis-1 did not recover "
        "within 20 s (and 1 more)."
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "fail"),
        ({"recovers_within_s": 30.0}, "fail"),
        ({"recovers_within_s": 30.5}, "unknown"),
        ({"recovers_within_s": None}, "unknown"),
        ({"observed_until_ns": START + 49 * S}, "unknown"),
        ({"observed_until_ns": START + 90 * S, "recovers_within_s": 60.0}, "fail"),
        ({"recovered_ns": START + 50 * S}, "pass"),
        ({"recovered_ns": START + 50 * S + 1}, "fail"),
        ({"held": True, "for_s": 5.0}, "fail"),
        ({"held": True, "for_s": 11.0}, "unknown"),
        ({"held": True, "for_s": 30.0}, "not_applicable"),
        ({"held": True, "for_s": 300.0, "undone_ns": None}, "not_applicable"),
        ({"void": "it had no effect"}, "unknown"),
    ],
)
def test_recovery_is_judged_by_how_long_it_was_observed(changes: dict, word: str) -> None:
    """Fully observed: fail. Ended earlier: unknown. Held until the end of the load: not applicable."""
    [window] = facts.fault_windows([{**CACHE, **changes}], START)

    assert recovery.verdict_of(window, 60.0)[0] == word


def test_a_run_that_ended_before_the_recovery_time_is_unknown() -> None:
    """30 of 60 s were observed: neither pass nor fail, exit 2."""
    found = judged(with_faults({**CACHE, "recovers_within_s": 60.0}))

    assert (found.verdict, found.exit_code) == ("UNKNOWN", 2)
    assert found.decided_by == (
        "cache_loss of redis-1 was not recovered when the run ended, 30 s into the allowed 60 s."
    )


def test_a_fault_that_lasts_until_the_end_does_not_affect_the_verdict() -> None:
    """Recovery does not apply to it."""
    found = judged(
        with_faults(
            {**REGION, "for_s": 40.0, "undone_ns": START + 60 * S, "recovered_ns": None},
            objectives=report_runs.OBJECTIVES[1:2],
        )
    )

    assert (found.verdict, found.recovery[0]["verdict"]) == ("PASS", "not_applicable")


def test_a_recovery_alone_does_not_pass_a_run() -> None:
    """Without objectives and invariants there is nothing to judge, even if the fault recovered."""
    assert (
        judged(with_faults({**CACHE, "recovered_ns": START + 31 * S}, objectives=(), invariants=())).verdict
        == "UNKNOWN"
    )


@pytest.mark.parametrize(
    ("spans", "rto_s", "at_least_s", "first_s"),
    [
        ([(20.0, 28.0)], 8.0, None, 8.0),
        ([(20.0, 28.4)], 9.0, None, 9.0),
        ([(20.0, 28.0), (35.2, 35.3)], 16.0, None, 8.0),
        ([(0.0, 20.0)], 0.0, None, 0.0),
        ([(20.0, 60.0)], None, 40.0, None),
        ([(20.0, 22.0), (58.5, 60.0)], None, 40.0, 2.0),
    ],
)
def test_rto_ends_with_the_last_bad_second(spans, rto_s, at_least_s, first_s) -> None:
    """Whole seconds from the injection; a later bad second extends it; if never reached, there is no value."""
    [entry] = judged(with_faults(REGION, history=failing_between(*spans))).recovery

    assert (entry["rto_s"], entry["rto_at_least_s"], entry["first_success_s"]) == (rto_s, at_least_s, first_s)


def test_a_second_with_exactly_99_percent_is_good() -> None:
    """Shares are compared exactly: 99 of 100 holds, 98 of 99 does not."""
    due_s = np.repeat([0.5, 1.5], [100, 99])
    outcome = ["fail", *["ok"] * 99, "fail", *["ok"] * 98]
    done = pd.DataFrame({"due_s": due_s, "outcome": outcome, "status": 200})

    assert recovery.rto(done[:100], 0.0, 9.0)["rto_s"] == 0.0
    assert recovery.rto(done, 0.0, 9.0) == {"rto_s": None, "rto_at_least_s": 2.0, "first_success_s": 0.0}


def test_a_refusal_by_a_rate_limit_is_no_outage() -> None:
    """The scenario configures the 429 responses."""
    [entry] = judged(with_faults(REGION, history=failing_between((20.0, 28.0), status=429))).recovery

    assert entry["rto_s"] == 0.0


def test_rto_stops_at_the_next_fault() -> None:
    """Failures after the second fault count for that fault."""
    second = {
        **REGION,
        "start_ns": START + 50 * S,
        "injected_ns": START + 50 * S,
        "undone_ns": START + 52 * S,
        "recovered_ns": START + 53 * S,
    }
    history = failing_between((20.0, 23.0), (50.0, 55.0))

    assert [one["rto_s"] for one in judged(with_faults(REGION, second, history=history)).recovery] == [
        3.0,
        5.0,
    ]


def test_time_to_recovery_counts_from_the_end_of_the_fault() -> None:
    """The end is the undo of a held one, the injection of an instant one; only zones and regions have RTO and RPO."""
    found = judged(with_faults(REGION, {**CACHE, "recovered_ns": START + 35 * S}, invariants=KEPT)).recovery

    assert [one["time_to_recovery_s"] for one in found] == [11.0, 5.0]
    assert [one["rto_s"] is None for one in found] == [False, True]
    assert found[0]["rpo"] == {
        "tweets": {"acknowledged": 512, "lost": 0},
        "likes": {"acknowledged": 40, "lost": 2},
    }
    assert found[1]["rpo"] is None


def test_a_twin_has_the_same_recovery_keys() -> None:
    """The twin has no stores: RPO is null, and recovery is judged as in a real run."""
    twin = report_runs.twin(objectives=report_runs.OBJECTIVES[:3])
    entry = judged(twin).recovery[0]

    assert entry.keys() == judged(report_runs.quiet()).recovery[0].keys()
    assert (entry["verdict"], entry["rpo"], entry["rto_s"]) == ("pass", None, None)


def test_recovery_times_are_declared_once() -> None:
    """Drills, `check`, the twin and the judge use the same times."""
    declared = {name: kind.recovers_within_s for name, kind in vocabulary.FAULT_KINDS.items()}

    assert {name: fault.recovers_within_s for name, fault in table.FAULTS.items()} == declared


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (["pass", "not_applicable"], "pass"),
        (["not_applicable"], "unknown"),
        (["not_applicable", "unknown"], "unknown"),
        (["not_applicable", "fail", "pass"], "fail"),
    ],
)
def test_not_applicable_parts_do_not_affect_the_verdict(parts, expected) -> None:
    """They have no rank; without other parts the verdict is unknown."""
    assert verdict.merge(parts) == expected


def test_objectives_that_hold_pass_a_run_to_which_no_invariant_applies() -> None:
    """For example a run that only reads profiles."""
    none = [{**KEPT[1], "name": name} for name in ("unique_ids", "read_your_writes")]
    found = judged(report_runs.quiet(invariants=none))

    assert (found.verdict, found.decided_by) == (
        "PASS",
        "4 objectives hold; 2 invariants are not applicable.",
    )


def test_a_run_with_neither_objectives_nor_invariants_that_apply_is_unknown() -> None:
    """There is nothing to judge."""
    found = judged(report_runs.quiet(invariants=KEPT[1:], objectives=()))

    assert found.verdict == "UNKNOWN"
    assert found.decided_by.endswith("no objectives and no invariant applies to its plan.")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finish.finish(
        tmp_path_factory.mktemp("runs"),
        with_faults(
            REGION,
            {**CACHE, "start_ns": START + 45 * S, "injected_ns": START + 45 * S},
            invariants=KEPT,
            history=failing_between((20.0, 28.0)),
            objectives=(),
        ),
    )


def test_every_format_shows_recovery_and_findings_that_do_not_apply(run) -> None:
    """Page, Markdown, JUnit (skipped, with the reason), console and record."""
    html, text = (run.path / "report.html").read_text(), exports.markdown(run)
    cases = {case.get("name"): case for case in ET.fromstring(exports.junit(run))}
    console = str(running.summary_lines(run))

    assert 'chip not_applicable">not applicable<' in html
    assert ">8 s<" in html and "0 of 512 tweets, 2 of 40 likes" in html
    assert "| unique ids | – not applicable | 0 | Not applicable: no posts. |" in text
    assert "| region_loss of east | ✓ pass | 11 s | 8 s | 0 of 512 tweets, 2 of 40 likes |" in text
    assert cases["unique_ids"].find("skipped").get("message") == "Not applicable: no posts."
    assert cases["cache_loss of redis-1"].find("error") is not None
    assert (
        "not applicable unique_ids" in console
        and "unknown        recovery of cache_loss of redis-1: was not" in console
    )
    record = json.loads((run.path / "record.json").read_text())
    assert [one["verdict"] for one in record["recovery"]] == ["pass", "unknown"]
    assert record["invariants"][0]["kept"]["likes"] == {"acknowledged": 40, "lost": 2}


def test_a_void_run_has_no_recovery_figures(tmp_path) -> None:
    """Neither time to recovery nor RTO nor RPO are shown for a run that cannot be trusted."""
    void = finish.finish(
        tmp_path, with_faults(REGION, generator=report_runs.void().generator, invariants=KEPT)
    )

    assert render.recoveries(void.document) == [
        {"name": "region_loss of east", "verdict": "void", "note": "–", "took": "–", "rto": "–", "rpo": "–"}
    ]


def test_compare_shows_the_recovery_of_both_sides(run, tmp_path) -> None:
    """Median of the times, sum of the losses; shown even if there are too few runs to compare."""
    slow = finish.finish(
        tmp_path,
        with_faults(
            {**REGION, "recovered_ns": None, "recovers_within_s": 20.0, "observed_until_ns": START + 60 * S},
            invariants=KEPT,
            history=failing_between((20.0, 33.0)),
            started_at="2026-11-22T18:20:00Z",
        ),
    )
    found = compare.compare([run], [slow])

    rows = {(one.fault, one.figure): (one.a, one.b) for one in found.recovery}
    assert rows["1. region_loss", "recovered"] == (1.0, 0.0)
    assert rows["1. region_loss", "time to recovery"] == (11.0, None)
    assert rows["1. region_loss", "RTO"] == (8.0, 13.0)
    assert rows["1. region_loss", "lost likes"] == (2.0, 2.0)
    assert "| 1. region_loss | RTO | 8 s | 13 s | 1 and 1 |" in compare.text(found)
    assert compare.document(found)["recovery"][0]["fault"] == "1. region_loss"
