"""Questions "does X help?": sides that differ in one setting, the twin's answer, and how answers are judged."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from reports.page import validation as page
from reports.stats import compare
from sim import calibration
from sim.calibration import Calibration
from sim.validation import questions as ask
from tests.helpers import twin_harness as harness


@pytest.fixture(scope="module")
def known() -> Calibration:
    return calibration.load(harness.LITERATURE)


def test_a_question_is_drawn_from_the_model_and_its_sides_differ_in_one_setting(known: Calibration) -> None:
    """The same model asks the same question again. Both sides have the same users and arrivals."""
    asked = ask.question(1, known)
    before, after = (side.resolved() for side in asked.sides)

    assert ask.question(1, known) == asked
    assert before != after
    for key in ("population", "workload", "seed"):
        assert before[key] == after[key]


def scenario_of(known: Calibration, setting: str, values: tuple[Any, Any]) -> ask.Question:
    base = dataclasses.replace(ask.draw.scenario("question", ask.np.random.default_rng(7), "reads", 12.0), faults=())
    sides = tuple(ask._changed(base, setting, value) for value in values)
    return ask.Question(1, setting, values, "reads", sides)  # type: ignore[arg-type]


def test_the_twin_answers_with_the_comparison_that_the_system_is_judged_by(known: Calibration) -> None:
    """A sixteenth of a core for each service slows some home reads; ten times the slots that are needed change nothing."""
    slower = ask.predicted(scenario_of(known, "cpu_quota", (None, 0.06)), known, replications=3)
    same = ask.predicted(scenario_of(known, "bulkhead.service", (96, 960)), known, replications=3)

    assert slower["answer"] == compare.CHANGED
    assert any(row["route"] == "home" and row["differs"] and row["change"] > 0.05 for row in slower["rows"])
    assert same["answer"] != compare.CHANGED and not any(row["differs"] for row in same["rows"])


def answer(word: str, **changes: tuple[float, bool]) -> dict[str, Any]:
    """`changes`: measure of home -> (change, differs)."""
    rows = [{"route": "home", "measure": measure, "change": change, "differs": differs}
            for measure, (change, differs) in changes.items()]
    return {"answer": word, "reason": "because", "rows": rows}


SLOWER = answer(compare.CHANGED, median=(0.4, True), spread=(0.02, False))


@pytest.mark.parametrize(("twin", "system", "result"), [
    (SLOWER, SLOWER, ask.RIGHT),
    (answer(compare.CHANGED, median=(-0.4, True)), SLOWER, ask.WRONG),
    (answer(compare.NOT_CHANGED, median=(0.01, False)), SLOWER, ask.WRONG),
    (answer(compare.CHANGED, spread=(0.4, True)), SLOWER, ask.WRONG),
    (SLOWER, answer(compare.NOT_CHANGED, median=(0.01, False)), ask.WRONG),
    (answer(compare.CHANGED, median=(0.03, True)), answer(compare.NOT_CHANGED, median=(0.01, False)), ask.RIGHT),
    (SLOWER, answer(compare.CANNOT_TELL, median=(0.2, False)), ask.NOT_JUDGED),
])  # fmt: skip
def test_an_answer_is_right_if_the_figure_that_changed_has_the_same_sign(twin, system, result) -> None:
    """Where the system did not change, a difference below the bound of `compare` is no difference."""
    assert ask.judged(twin, system)[0] == result


def test_twenty_questions_must_count_for_a_verdict() -> None:
    """Of 20 that count, 19 right signs hold the bar and 18 miss it; 19 are too few to say."""
    def verdict(right: int, wrong: int) -> str:
        return ask.summary(entries(right, wrong))["verdict"]

    assert [verdict(19, 1), verdict(18, 2), verdict(19, 0), verdict(0, 0)] == ["holds", "misses", "unknown", "unknown"]


def entries(right: int, wrong: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in range(right + wrong):
        twin = SLOWER if number < right else answer(compare.NOT_CHANGED)
        found += [{"type": "question", "number": number, "question": "push_limit 300 -> 20", "predicted": twin},
                  {"type": "answer", "number": number, "measured": SLOWER}]
    return found


def test_the_page_shows_every_question_with_both_answers() -> None:
    summary = {"identity": "abc", "commit": "def", **ask.summary(entries(2, 1))}

    html = page.questions(json.loads(json.dumps(summary)))

    assert html.count("push_limit 300 -&gt; 20") == 3 and "2 of 3 signs" in html and html.count(">wrong<") == 1
