"""Predictions of readers, written down before the answer: what the notebooks use.

    mine = course.predict("first_run: home p99 in the second after the loss, ms", 400)
    course.compare(mine, 912)

A prediction is appended with its time to `.tweetlab/predictions.jsonl` of this checkout. The first one for a question
counts: a later one is recorded too, and shown as such.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tweetlab import home


@dataclass(frozen=True)
class Guess:
    """`question`, with its unit. `value`: what the reader expects; None for nothing. `first`: their first value, if another."""

    question: str
    value: float | None
    first: float | None = None

    def __repr__(self) -> str:
        if self.value is None:
            return f"No prediction yet for: {self.question}. Write your number in the cell above, then run it again."
        again = "" if self.first is None else f" (first: {self.first:g})"
        return f"Recorded: {self.question}: {self.value:g}{again}"


def path() -> Path:
    """Return the file of this checkout's predictions."""
    return home.ROOT / ".tweetlab" / "predictions.jsonl"


def predict(question: str, value: float | None = None, file: Path | None = None) -> Guess:
    """Record a prediction before its answer is computed. `value`: None records nothing."""
    target = file or path()
    if value is None:
        return Guess(question, None)
    earlier = [row["value"] for row in _rows(target) if row["question"] == question]
    if value not in earlier:
        target.parent.mkdir(parents=True, exist_ok=True)
        row = {"at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "question": question, "value": value}
        with target.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    return Guess(question, value, earlier[0] if earlier and earlier[0] != value else None)


def compare(guess: Guess, answer: float, what: str = "the simulation") -> str:
    """Return the prediction beside the answer, in words."""
    if guess.value is None:
        return f"{guess.question}: {what} says {answer:.4g}; you wrote no prediction."
    distance = f"{100 * (guess.value / answer - 1):+.0f} %" if answer else "undefined"
    return f"{guess.question}: you predicted {guess.value:g}, {what} says {answer:.4g} (off by {distance})."


def _rows(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
