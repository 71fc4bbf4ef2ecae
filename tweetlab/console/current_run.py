"""The running load, the active faults and the newest runs, all read from files."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from chaos import undo
from reports.page import texts
from system.platform.process import procs
from tweetlab.load import journal, live

NEWEST = 12   # runs in the list
HEAD_BYTES = 512  # contain time, process and scenario of a load: they identify the file (inodes are reused)
RECENT_S = 90.0  # how long a recovered fault is still listed

Json = dict[str, Any]


class Running:
    """Follows the journal of the lab's loads. Reads only new lines."""

    def __init__(self, state: Path) -> None:
        self._path = journal.path_of(state)
        self._undo = undo.UndoLog(undo.path_of(state))
        self._begin, self._at, self._rest = b"", 0, b""  # start of the file, bytes read of it, its unfinished last line
        self.head: Json = {}
        self.ticks: list[Json] = []
        self._so_far = live.Totals()
        self._started_ms = 0
        self._ended = False
        self._faults: tuple[float, list[Json]] = (-1.0, [])

    def read(self) -> Json | None:
        """Return the current load, or the last one; None if there was none.

        `phase`: warming (caches are filled), loading, checking, over, or broken (its process exited).
        """
        self._follow()
        if not self.head:
            return None
        alive = procs.is_alive(self.head["pid"], self.head["start_ticks"])
        phase = ("checking" if self._ended else "loading" if self._started_ms else "warming") if alive else (
            "over" if self._ended else "broken")
        past_s = (time.time() * 1000 - self._started_ms) / 1000 if self._started_ms else 0.0
        head = {key: self.head[key] for key in ("scenario", "question", "load_s", "stages", "faults", "objectives")}
        return {**head, "phase": phase, "started_ms": self._started_ms, "past_s": round(min(past_s, self.head["load_s"]), 1),
                "tick": self._newest()}

    def _newest(self) -> Json | None:
        """Return the last second, with the counts since the start (`so_far`), as in the command's live table."""
        if not self.ticks:
            return None
        so_far = {**dataclasses.asdict(self._so_far), "finished": self._so_far.finished}
        return {**self.ticks[-1], "so_far": so_far}

    def _follow(self) -> None:
        try:
            with self._path.open("rb") as file:
                begin = file.readline(HEAD_BYTES)
                if not begin.startswith(self._begin) or not self._begin:
                    self._forget(begin)
                file.seek(self._at)
                data = self._rest + file.read()
                self._at = file.tell()
        except OSError:
            return
        lines = data.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._apply(json.loads(line))

    def _forget(self, begin: bytes) -> None:
        self._begin, self._at, self._rest, self.head, self.ticks = begin, 0, b"", {}, []
        self._so_far = live.Totals()
        self._started_ms, self._ended = 0, False

    def _apply(self, line: Json) -> None:
        event = line.pop("event")
        if event == "opened":
            self.head = line
        elif event == "started":
            self._started_ms = line["wall_ms"]
        elif event == "second":
            self.ticks.append(line)
            self._so_far.add(live.Tick(**line))
        else:
            self._ended = True

    def faults(self) -> list[Json]:
        """Return the active faults, and those that ended within RECENT_S; the newest first."""
        try:
            changed = self._undo.path.stat().st_mtime
        except OSError:
            return []
        if changed != self._faults[0]:
            self._faults = (changed, _faults(self._undo.lines()))
        now_ms = time.time() * 1000
        return [fault for fault in self._faults[1]
                if fault["state"] == "active" or now_ms - fault["ended_ms"] < RECENT_S * 1000]


def _faults(lines: list[Json]) -> list[Json]:
    by_id: dict[str, Json] = {}
    for line in lines:
        step, at_ms = line["step"], line["wall_ms"]
        if step == undo.PLANNED:
            by_id[line["id"]] = {"kind": line["fault"], "target": line["aim"]["node"], "state": "planned", "ended_ms": at_ms}
        elif line["id"] in by_id:
            fault = by_id[line["id"]]
            if step == undo.INJECTED:
                fault |= {"state": "active", "began_ms": at_ms}
            else:
                fault |= {"state": "undone" if step == undo.UNDONE else "recovered", "ended_ms": at_ms}
    return [fault for fault in reversed(by_id.values()) if "began_ms" in fault]


class Runs:
    """The newest runs; a record is read again only if it changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[float, Json]] = {}

    def newest(self) -> list[Json]:
        """Return run, verdict, kind, question and whether a report exists, the newest first."""
        paths = [path for path in self._folder.glob("*/*/record.json")
                 if path.parent.name != "latest" and not path.parent.name.startswith(".") and not path.parent.parent.is_symlink()]
        paths.sort(key=lambda path: path.parent.name, reverse=True)
        return [row for path in paths[:NEWEST] if (row := self._row(path))]

    def _row(self, path: Path) -> Json | None:
        try:
            changed = path.stat().st_mtime
            if path not in self._known or self._known[path][0] != changed:
                document = json.loads(path.read_bytes())
                self._known[path] = (changed, {
                    "run": f"{path.parent.parent.name}/{path.parent.name}", "scenario": path.parent.parent.name,
                    "verdict": str(document["verdict"]), "kind": str(document["kind"]),
                    "started_at": str(document.get("started_at", "")),
                    "question": texts.utf8_safe(str(document["scenario"].get("question", ""))),
                    "report": (path.parent / "report.html").exists()})
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a broken record must not hide the others
        return self._known[path][1]
