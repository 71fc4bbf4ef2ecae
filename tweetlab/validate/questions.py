"""`tweetlab validate --questions`: each call asks as many questions as fit into its minutes, and adds them to the ledger.

A question is predicted, with its hash in the ledger, before its runs. The runs of both sides alternate. An interrupted
question resumes with its next run while the runs that it has are still there.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from reports import record
from reports.page import validation as page
from reports.stats import compare
from sim.calibration import Calibration
from sim.validation import draw, ledger
from sim.validation import questions as ask
from system.kernel import errors
from tweetlab import home
from tweetlab.lab import session
from tweetlab.run import inputs, runner
from tweetlab.terminal import Screen
from tweetlab.validate import campaign

MINUTES = 25.0  # of one call
OVERHEAD_S = campaign.OVERHEAD_S
SIDES = 2


async def campaign_of_questions(screen: Screen, *, keep: bool, folder: Path = campaign.FOLDER, file: str = "",
                                minutes: float = MINUTES) -> dict[str, Any]:
    """Ask questions for `minutes`; return the summary of all of this model, which is also written to `folder`."""
    calibration = campaign.calibration_here(file)
    identity, book = draw.identity(calibration) + "-questions", ledger.Ledger(folder)
    until_s = time.monotonic() + minutes * 60
    runs = SIDES * ask.REPEATS
    each_s = runs * (draw.WARM_UP_S + ask.STEADY_S + OVERHEAD_S)
    screen.say(f"a question takes about {each_s / 60:.0f} min ({runs} runs); this call ends within {minutes:.0f} min")
    number = 1 + sum(entry["type"] == "answer" for entry in book.entries(identity))
    asked = _predict(number, calibration, identity, book, screen)
    async with session.opened(screen, "small", asked.sides[0].policies, keep=keep, resets=True) as lab:
        await _answer(lab, asked, identity, book, screen)
        while time.monotonic() + each_s < until_s:
            number += 1
            await _answer(lab, _predict(number, calibration, identity, book, screen), identity, book, screen)
    return conclude(identity, book, folder, screen)


def _predict(number: int, calibration: Calibration, identity: str, book: ledger.Ledger, screen: Screen) -> ask.Question:
    with screen.step(f"question {number}: drawing and predicting"):
        asked = ask.question(number, calibration)
        known = any(entry["type"] == "question" and entry["number"] == number for entry in book.entries(identity))
        if not known:
            predicted = ask.predicted(asked, calibration)
            book.append({"type": "question", "identity": identity, "number": number, "question": asked.text,
                         "commit": home.commit(), "predicted": predicted, "sha256": ledger.sha256(predicted)})
    screen.say(f"question {number}: {asked.text}")
    return asked


async def _answer(lab: session.Session, asked: ask.Question, identity: str, book: ledger.Ledger, screen: Screen) -> None:
    sides = _earlier(asked.number, identity, book)
    while min(len(side) for side in sides) < ask.REPEATS:
        which = 0 if len(sides[0]) <= len(sides[1]) else 1
        scenario = asked.sides[which]
        screen.say(f"question {asked.number}, side {'AB'[which]}, run {len(sides[which]) + 1} of {ask.REPEATS}")
        started = await runner.run(lab, scenario, "tweetlab validate --questions", inputs=inputs.draw(scenario), check=False)
        run = runner.finished(started, lab.lab)
        book.append({"type": "question_run", "identity": identity, "number": asked.number, "side": which, "run": run.run_id})
        sides[which].append(run)
    measured = ask.as_json(compare.compare(*sides))
    book.append({"type": "answer", "identity": identity, "number": asked.number, "measured": measured})
    screen.say(f"question {asked.number}: {measured['answer']}: {measured['reason']}")


def _earlier(number: int, identity: str, book: ledger.Ledger) -> tuple[list[record.Run], list[record.Run]]:
    """Return the runs of a question that was interrupted; none if one of them was deleted since."""
    sides: tuple[list[record.Run], list[record.Run]] = ([], [])
    for entry in book.entries(identity):
        if entry["type"] == "question_run" and entry["number"] == number:
            try:
                sides[entry["side"]].append(record.find(home.RUNS, entry["run"]))
            except (errors.NotFound, errors.WrongInput):
                return [], []
    return sides


def conclude(identity: str, book: ledger.Ledger, folder: Path, screen: Screen) -> dict[str, Any]:
    """Judge the questions in the ledger; write the page and return the summary."""
    summary = {"identity": identity, "commit": home.commit(), **ask.summary(book.entries(identity))}
    (folder / "questions.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "questions.html").write_text(page.questions(summary), encoding="utf-8")
    screen.say(f"page: {folder / 'questions.html'}")
    return summary
