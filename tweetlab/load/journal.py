"""Writes the progress of a load to `live.jsonl` in the lab's folder, second by second, for the console.

| line | content |
|---|---|
| opened | the scenario, its stages, faults and objectives; the process that runs it (`pid`, `start_ticks`) |
| started | `wall_ms`: when the load started |
| second | one second, as `live.Tick` |
| ended | the load is complete; its results are being checked |

The file of the last load remains until the next one starts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scenarios import spec
from system.platform.process import procs
from tweetlab.load.live import Tick

NAME = "live.jsonl"


def path_of(state: Path) -> Path:
    """Return the path of a lab's journal; `state`: the lab's own folder."""
    return state / NAME


class Journal:
    """A listener that writes each second to the journal and forwards it to `inner`."""

    def __init__(self, path: Path, scenario: spec.Scenario, inner: Callable[[Tick], None]) -> None:
        self._path, self._inner = path, inner
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a reader that has the old file open notices the new one
        self._write({"event": "opened", "wall_ms": time.time_ns() // 1_000_000, "pid": os.getpid(),
                     "start_ticks": procs.start_ticks(os.getpid()), **_summary(scenario)})
        self._open = True

    def started(self, wall_ms: int) -> None:
        """Record when the load started."""
        self._write({"event": "started", "wall_ms": wall_ms})

    def __call__(self, tick: Tick) -> None:
        self._write({"event": "second", **dataclasses.asdict(tick)})
        self._inner(tick)

    def note(self, text: str) -> None:
        """Forward a line to `inner` if it can show one."""
        note = getattr(self._inner, "note", None)
        if note is not None:
            note(text)

    def close(self) -> None:
        """Record the end, and close `inner` if it can be closed. Idempotent."""
        if self._open:
            self._open = False
            self._write({"event": "ended", "wall_ms": time.time_ns() // 1_000_000})
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        except OSError:
            return  # the console gets no data (a full disk); the load continues


def _summary(scenario: spec.Scenario) -> dict[str, Any]:
    return {
        "scenario": scenario.name, "question": scenario.question, "load_s": scenario.workload.load_s,
        "stages": [{"for_s": stage.for_s, "from": stage.rate_from, "to": stage.rate_to} for stage in scenario.workload.stages],
        "faults": [{"kind": fault.kind, "target": fault.target, "at_s": fault.at_s, "for_s": fault.for_s}
                   for fault in scenario.faults_in_load],
        "objectives": [{"text": objective.text, "route": objective.route, "metric": objective.metric,
                        "bound": float(objective.bound)} for objective in scenario.objectives],
    }
