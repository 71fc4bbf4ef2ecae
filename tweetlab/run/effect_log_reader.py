"""The effect logs of the workers, as one table: what each event did, when, and along which path."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from system.kernel.errors import CouldNotRun


def read(directory: Path, from_ns: int = 0, until_ns: int = 2**63 - 1) -> pd.DataFrame:
    """Return the lines of all logs in `directory` with `from_ns` <= at_ns <= `until_ns`, by time.

    A truncated last line (the worker was killed while writing) is left out; any other invalid line raises
    CouldNotRun.
    """
    rows = [row for path in sorted(directory.glob("*.jsonl")) for row in _lines(path)
            if from_ns <= int(row["at_ns"]) <= until_ns]
    return pd.DataFrame(rows).sort_values("at_ns", kind="stable", ignore_index=True) if rows else pd.DataFrame()


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            row["at_ns"] = int(row["at_ns"])
            yield row
        except (ValueError, KeyError, TypeError) as problem:
            if number == len(lines):
                return
            raise CouldNotRun(f"{path} line {number} is not an effect ({problem}): {line[:120]!r}. Is the disk full?") from None
