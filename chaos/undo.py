"""The undo log: a write-ahead log of faults. What undo needs is on disk before the injection.

One JSON object per line, appended and fsynced: `planned` (with the fault, its target and the runner's
identity), then `injected`, `undone` and `gone` (recovered) for the same id. An entry without `undone` whose
runner is dead is an orphan: `sweep` undoes it; the watchdog calls `sweep`, and so does the next start. Undo
is idempotent.
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

PLANNED, INJECTED, UNDONE, RECOVERED = "planned", "injected", "undone", "gone"


@dataclass(frozen=True)
class Entry:
    """A fault that was planned and not undone. `runner_pid`, `runner_ticks`: the process that planned it."""

    id: str
    fault: str
    target: Target
    runner_pid: int
    runner_ticks: int

    def is_orphan(self) -> bool:
        """Return whether the runner that planned it is dead."""
        return not procs.is_alive(self.runner_pid, self.runner_ticks)


class UndoLog:
    """The log at `path`; the first write creates it and its directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self, fault: str, target: Target) -> str:
        """Record that `fault` is about to be injected; return the entry's id. On return it is on disk."""
        entry = uuid.uuid4().hex
        self._write({"id": entry, "step": PLANNED, "fault": fault, "aim": _as_json(target), "runner_pid": os.getpid(),
                     "runner_ticks": procs.start_ticks(os.getpid())})
        return entry

    def mark(self, entry: str, step: str, note: str = "") -> None:
        """Record that an entry was injected, was undone or has recovered. On return the line is on disk."""
        self._write({"id": entry, "step": step} | ({"note": note} if note else {}))

    def _write(self, line: Mapping[str, Any]) -> None:
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        stamped = {**line, "at_ns": time.monotonic_ns(), "wall_ms": time.time_ns() // 1_000_000}
        with self.path.open("ab+") as file:
            if file.tell() and not self._ends_a_line(file):
                file.write(b"\n")  # a crash tore the last line; without this the new one would be appended to it
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
        """Return all lines; one that a crash tore is left out."""
        if not self.path.exists():
            return []
        lines = []
        for line in self.path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def pending(self) -> list[Entry]:
        """Return the entries that were planned and not undone, in the order to undo them: newest first."""
        lines = self.lines()
        undone = {line["id"] for line in lines if line["step"] == UNDONE}
        return [Entry(line["id"], line["fault"], _target_of(line["aim"]), line["runner_pid"], line["runner_ticks"])
                for line in reversed(lines) if line["step"] == PLANNED and line["id"] not in undone]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the log's lock, so that no other process runs `sweep` at the same time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _as_json(target: Target) -> dict[str, Any]:
    """Return a target as the log stores it: `strength` is stored as `asked`."""
    document = asdict(target)
    return document | {"asked": document.pop("strength")}


def _target_of(document: Mapping[str, Any]) -> Target:
    fields = dict(document)
    strength = fields.pop("asked", {})
    return Target(**fields, strength=strength)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def path_of(state: Path) -> Path:
    """Return the path of a lab's undo log; `state` is the lab's data directory."""
    return state / "undo.jsonl"


async def sweep(lab: Lab, log: UndoLog, faults: Mapping[str, Fault] | None = None) -> list[Entry]:
    """Undo the faults that dead runners left; return their entries. Entries of live runners are not touched.

    Raises CouldNotRun for a fault that this version does not know, and what the undo raises; the entry stays
    pending for the next sweep.
    """
    known = FAULTS if faults is None else faults
    done = []
    with log.locked():
        for entry in log.pending():
            if not entry.is_orphan():
                continue
            fault = known.get(entry.fault)
            if fault is None:
                raise CouldNotRun(f"{log.path} holds the fault {entry.fault!r}, which this version does not know; undo it "
                                  f"by hand ({entry.target}), then delete the file.")
            log.mark(entry.id, UNDONE, await _undo(lab, fault, entry.target))
            done.append(entry)
    return done


async def _undo(lab: Lab, fault: Fault, target: Target) -> str:
    """Undo one fault; return a note where the lab is down, so that there is nothing to undo."""
    if not await lab.status():
        return "the lab is down, and the fault with it"
    await fault.undo(lab, target)
    return ""
