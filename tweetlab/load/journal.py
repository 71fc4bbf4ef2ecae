"""Writes what a load does to `live.jsonl` in the lab's folder, second by second, so that others (the console) can look on.

| line | says |
|---|---|
| opened | the question, its stages, faults and promises; which process asks (`pid`, `start_ticks`) |
| started | `wall_ms`: when the load began |
| second | one second, as `live.Tick` |
| ended | the load is over; what it left is being checked |

The file of the last load stays until the next one begins.
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
    """Return where the journal of a lab lies; `state`: the lab's own folder."""
    return state / NAME


class Journal:
    """Hears each second, writes it down, and passes it on to `inner`."""

    def __init__(self, path: Path, scenario: spec.Scenario, inner: Callable[[Tick], None]) -> None:
        self._path, self._inner = path, inner
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a reader that holds the old one open sees that it is gone
        self._write({"event": "opened", "wall_ms": time.time_ns() // 1_000_000, "pid": os.getpid(),
                     "start_ticks": procs.start_ticks(os.getpid()), **_question(scenario)})
        self._open = True

    def started(self, wall_ms: int) -> None:
        """Note when the load began."""
        self._write({"event": "started", "wall_ms": wall_ms})

    def __call__(self, tick: Tick) -> None:
        self._write({"event": "second", **dataclasses.asdict(tick)})
        self._inner(tick)

    def note(self, text: str) -> None:
        """Pass a line to show on to `inner` where it can show one."""
        note = getattr(self._inner, "note", None)
        if note is not None:
            note(text)

    def close(self) -> None:
        """Note the end, and close `inner` where it can be. Safe to repeat."""
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
            return  # nobody may look on (a full disk); the load goes on


def _question(scenario: spec.Scenario) -> dict[str, Any]:
    return {
        "scenario": scenario.name, "question": scenario.question, "load_s": scenario.workload.load_s,
        "stages": [{"for_s": stage.for_s, "from": stage.rate_from, "to": stage.rate_to} for stage in scenario.workload.stages],
        "faults": [{"kind": fault.kind, "target": fault.target, "at_s": fault.at_s, "for_s": fault.for_s}
                   for fault in scenario.faults_in_load],
        "objectives": [{"text": each.text, "route": each.route, "metric": each.metric,
                        "bound": float(each.bound)} for each in scenario.objectives],
    }
