"""The undo log: what a fault needs to be taken back is on disk before the fault is injected.

One JSON object a line, appended and fsynced: `planned` (with fault, aim and the runner's identity), then
`injected`, `undone`, `gone` for the same id. An entry without `undone` whose runner no longer lives is what
a dead runner left behind; `sweep` undoes it, at the next start or by the watchdog. Undoing twice is harmless.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from chaos.faults.table import FAULTS
from chaos.faults.targets import Fault, Lab, Target
from system.kernel.errors import CouldNotRun
from system.platform.process import procs

PLANNED, INJECTED, UNDONE, GONE = "planned", "injected", "undone", "gone"


@dataclass(frozen=True)
class Entry:
    """A fault that was planned and not undone. `runner_pid`, `runner_ticks`: the process that planned it."""

    id: str
    fault: str
    aim: Target
    runner_pid: int
    runner_ticks: int

    def is_orphan(self) -> bool:
        """Say whether the runner that planned it is gone."""
        return not procs.is_alive(self.runner_pid, self.runner_ticks)


class UndoLog:
    """The log at `path`; made, with its folder, at the first write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self, fault: str, aim: Target) -> str:
        """Record that `fault` is about to be injected; return its id. On return the line is on disk."""
        entry = uuid.uuid4().hex
        self._write({"id": entry, "step": PLANNED, "fault": fault, "aim": asdict(aim), "runner_pid": os.getpid(),
                     "runner_ticks": procs.start_ticks(os.getpid())})
        return entry

    def mark(self, entry: str, step: str, note: str = "") -> None:
        """Record that an entry was injected, undone or is gone. On return the line is on disk."""
        self._write({"id": entry, "step": step} | ({"note": note} if note else {}))

    def _write(self, line: Mapping[str, Any]) -> None:
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stamped = {**line, "at_ns": time.monotonic_ns(), "wall_ms": time.time_ns() // 1_000_000}
        with self.path.open("ab+") as file:
            if file.tell() and not self._ends_a_line(file):
                file.write(b"\n")  # a crash cut the last line off; without this it would swallow the new one
            file.write(json.dumps(stamped, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(self.path.parent)

    @staticmethod
    def _ends_a_line(file: BinaryIO) -> bool:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"

    def lines(self) -> list[dict[str, Any]]:
        """Return all lines; one that was cut off by a crash is left out."""
        if not self.path.exists():
            return []
        found = []
        for line in self.path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def standing(self) -> list[Entry]:
        """Return the entries that were planned and not undone, the newest first: the order in which to undo them."""
        lines = self.lines()
        undone = {line["id"] for line in lines if line["step"] == UNDONE}
        return [Entry(line["id"], line["fault"], Target(**line["aim"]), line["runner_pid"], line["runner_ticks"])
                for line in reversed(lines) if line["step"] == PLANNED and line["id"] not in undone]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the log against other sweepers."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def path_of(state: Path) -> Path:
    """Return where the undo log of a lab lies: `state` is the lab's own folder."""
    return state / "undo.jsonl"


async def sweep(lab: Lab, log: UndoLog, faults: Mapping[str, Fault] | None = None) -> list[Entry]:
    """Undo what dead runners left; return the entries that were undone. Entries of living runners are left alone.

    Raises CouldNotRun where a fault cannot be undone while its lab is up; the entry stays for the next sweep.
    """
    known = FAULTS if faults is None else faults
    done = []
    with log.alone():
        for entry in log.standing():
            if not entry.is_orphan():
                continue
            fault = known.get(entry.fault)
            if fault is None:
                raise CouldNotRun(f"{log.path} holds the fault {entry.fault!r}, which this version does not know; undo it "
                                  f"by hand ({entry.aim}), then delete the file.")
            log.mark(entry.id, UNDONE, await _undo(lab, fault, entry.aim))
            done.append(entry)
    return done


async def _undo(lab: Lab, fault: Fault, aim: Target) -> str:
    """Undo one fault; return a note where the lab was already down, so that nothing was left to undo."""
    if not await lab.status():
        return "the lab is down: the fault went with it"
    await fault.undo(lab, aim)
    return ""
