"""Exit code, page, Markdown, JUnit, JSON and console agree on the verdict of a run."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from reports import exports, facts, finish, record
from reports.judge import verdict
from tests.helpers import report_runs
from tweetlab.commands import run as running
from tweetlab.terminal import Screen

EXPECTS = {"resolved": {"expect_overload": True}}
HOLDS = (facts.Objective("home", "p99", "<=", 60.0),)
MISSED = (facts.Objective("home", "p99", "<=", 0.001),)
FAILED = report_runs.failing().invariants
IDLE = report_runs.unknown().invariants


def overloaded(**changes: object) -> facts.Facts:
    return dataclasses.replace(report_runs.overloaded(), **{"objectives": HOLDS, **changes})


def void(**changes: object) -> facts.Facts:
    return dataclasses.replace(report_runs.void(), **changes)


RUNS: dict[str, tuple[str, Callable[[], facts.Facts]]] = {
    "everything holds": ("PASS", report_runs.quiet),
    "a note does not hold": (
        "PASS",
        lambda: report_runs.quiet(
            series=report_runs.series(nodes={"gateway-1": 0.1}).assign(
                value=lambda rows: rows["value"].where(rows["name"] != "host_busy_cores", 3.0)
            )
        ),
    ),
    "an overload that is expected": ("PASS", lambda: overloaded(scenario_doc=EXPECTS)),
    "an objective is missed": ("FAIL", lambda: report_runs.quiet(objectives=MISSED)),
    "an objective has no value": (
        "FAIL",
        lambda: report_runs.quiet(history=report_runs.history().assign(outcome="fail")),
    ),
    "an invariant is violated": ("FAIL", report_runs.failing),
    "overloaded and missed": ("FAIL", lambda: overloaded(objectives=MISSED)),
    "an overload that is expected, and missed": (
        "FAIL",
        lambda: overloaded(objectives=MISSED, scenario_doc=EXPECTS),
    ),
    "failed and unknown": ("FAIL", lambda: report_runs.quiet(objectives=MISSED, invariants=IDLE)),
    "an invariant checked nothing": ("UNKNOWN", report_runs.unknown),
    "too few operations": (
        "UNKNOWN",
        lambda: report_runs.quiet(objectives=(facts.Objective("home", "p9999", "<=", 9.0, "during fault"),)),
    ),
    "nothing to judge": ("UNKNOWN", lambda: report_runs.quiet(objectives=(), invariants=())),
    "overloaded": ("UNKNOWN", overloaded),
    "an overload that is expected, and unknown": (
        "UNKNOWN",
        lambda: overloaded(scenario_doc=EXPECTS, invariants=IDLE),
    ),
    "a busy generator": ("VOID", void),
    "void and missed": ("VOID", lambda: void(objectives=MISSED)),
    "void and violated": ("VOID", lambda: void(invariants=FAILED)),
    "void and nothing to judge": ("VOID", lambda: void(objectives=(), invariants=())),
    "a twin": ("PASS", lambda: report_runs.twin(objectives=HOLDS)),
}


def of_exit_code(run: record.Run, output: str) -> str:
    return next(
        word for word, code in verdict.EXIT_CODES.items() if code == running.show([run], Screen(False))
    )


def of_json(run: record.Run, output: str) -> str:
    document = json.loads((run.path / "record.json").read_text(encoding="utf-8"))
    assert document["exit_code"] == verdict.EXIT_CODES[document["verdict"]]
    return str(document["verdict"])


def of_page(run: record.Run, output: str) -> str:
    html = (run.path / "report.html").read_text(encoding="utf-8")
    (word,), (code,) = re.findall(r'<div class="word">(\w+)</div>', html), re.findall(r"exit code (\d)", html)
    assert int(code) == verdict.EXIT_CODES[word]
    return str(word)


def of_markdown(run: record.Run, output: str) -> str:
    text = exports.markdown(run)
    word = text.splitlines()[0].rpartition(": ")[2]
    assert f"exit code {verdict.EXIT_CODES[word]}" in text
    return word


def of_junit(run: record.Run, output: str) -> str:
    """Return the verdict property, which must agree with the failures and errors that a CI server counts."""
    suite = ET.fromstring(exports.junit(run))
    named = {one.get("name"): str(one.get("value")) for one in suite.iter("property")}
    failures, errors = int(str(suite.get("failures"))), int(str(suite.get("errors")))
    color = "FAIL" if failures else "NOT GREEN" if errors else "PASS"
    assert color == {"UNKNOWN": "NOT GREEN", "VOID": "NOT GREEN"}.get(named["verdict"], named["verdict"])
    assert int(named["exit_code"]) == verdict.EXIT_CODES[named["verdict"]]
    return named["verdict"]


def of_console(run: record.Run, output: str) -> str:
    word = output.split()[0]
    assert f"exit code {verdict.EXIT_CODES[word]}" in output
    return word


FORMATS = {
    "exit code": of_exit_code,
    "JSON": of_json,
    "page": of_page,
    "Markdown": of_markdown,
    "JUnit": of_junit,
    "console": of_console,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, record.Run]:
    return {case: finish.finish(tmp_path_factory.mktemp("runs"), make()) for case, (_, make) in RUNS.items()}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("case", RUNS)
def test_every_format_agrees_on_every_verdict(case: str, form: str, finished: dict[str, record.Run]) -> None:
    """Regression: JUnit and exit code disagreed on overloaded and on empty runs."""
    run = finished[case]
    assert FORMATS[form](run, running.summary_lines(run).plain) == RUNS[case][0]


def test_the_cases_cover_every_verdict() -> None:
    """PASS, FAIL, UNKNOWN and VOID."""
    assert {word for word, _ in RUNS.values()} == set(verdict.EXIT_CODES)


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_shows_a_result_of_a_void_run(form: str, finished: dict[str, record.Run]) -> None:
    """An objective of a void run neither passes nor fails."""
    run = finished["void and missed"]
    text = {
        "page": (run.path / "report.html").read_text(encoding="utf-8"),
        "Markdown": exports.markdown(run),
        "JUnit": exports.junit(run),
        "console": running.summary_lines(run).plain,
    }.get(form, "withheld")
    assert "withheld" in text


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["PASS", "PASS"], 0),
        (["PASS", "UNKNOWN"], 2),
        (["UNKNOWN", "FAIL"], 1),
        (["FAIL", "PASS"], 1),
        (["FAIL", "VOID"], 3),
        (["PASS", "parrot"], 3),
        ([], 3),
    ],
)
def test_of_several_runs_the_worst_decides_the_exit_code(words: list[str], code: int) -> None:
    """A failure among the repeats takes precedence over an unknown, whose exit code is higher."""
    assert verdict.exit_code(verdict.worst(words)) == code


def test_a_record_without_lower_bounds_and_refusals_is_readable(tmp_path: Path) -> None:
    """These keys are optional, since older records lack them: every format works without them."""
    run = finish.finish(tmp_path, report_runs.failing())
    document = json.loads((run.path / "record.json").read_text(encoding="utf-8"))
    for one in document["objectives"]:
        for key in ("at_least", "unanswered", "refused"):
            del one[key]
    for one in document["validity"]["criteria"]:
        one.pop("limit", None)
    del document["summary"]["delivery"]["undelivered"]
    totals = document["summary"]["totals"]
    for block in (totals, totals["steady"], *document["summary"]["routes"].values()):
        del block["refused"]
    (run.path / "record.json").write_text(json.dumps(document), encoding="utf-8")
    old = record.read(run.path)
    assert [form(old, running.summary_lines(old).plain) for form in FORMATS.values()] == ["FAIL"] * len(
        FORMATS
    )
