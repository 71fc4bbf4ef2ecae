"""The folder of a sweep: runs/sweeps/<scenario>/<UTC time>/.

    sweep.json            definition, then results: points, knees, bottleneck
    replications.jsonl    one row per finished replication, appended as it ends: what a resumed sweep keeps
    replications.parquet  the same as a table, when the sweep is complete
    report.html  figure.svg

`identity` is a hash of everything that decides the results; a sweep resumes the newest unfinished folder that has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reports import finish, record
from system.kernel.errors import CouldNotRun, NotFound, WrongInput
from tweetlab import home

SCHEMA_VERSION = 1
DOCUMENT, ROWS = "sweep.json", "replications.jsonl"
COMPLETE, INCOMPLETE, INTERRUPTED = "complete", "incomplete", "interrupted"
"""States of a sweep: every point has its result; some point failed; ended by Ctrl-C. The same command resumes the last two."""


def sweeps() -> Path:
    """Return the folder of all sweeps."""
    return home.RUNS / "sweeps"


def identity(definition: Mapping[str, Any]) -> str:
    """Return the hash of a definition, 16 hex digits."""
    return hashlib.sha256(json.dumps(definition, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Folder:
    """The folder of one sweep."""

    path: Path

    @property
    def document(self) -> dict[str, Any]:
        """The contents of sweep.json."""
        return read(self.path)

    def rows(self) -> list[dict[str, Any]]:
        """Return the replications so far. A truncated line (a full disk, a crash) is left out and played again."""
        file = self.path / ROWS
        if not file.exists():
            return []
        rows = []
        for line in file.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Keep one replication."""
        try:
            with (self.path / ROWS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(finish.finite(row)) + "\n")
        except OSError as problem:
            raise CouldNotRun(f"cannot write {self.path / ROWS}: {problem.strerror}; free some space, then run the same "
                              "command again: it resumes.") from None

    def write(self, document: Mapping[str, Any]) -> None:
        """Replace sweep.json, atomically."""
        record.write_text(self.path / DOCUMENT, json.dumps(finish.finite(document), indent=1, ensure_ascii=False) + "\n")


def create(root: Path, scenario: str, document: Mapping[str, Any]) -> Folder:
    """Make a new folder with its definition."""
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path, number = root / scenario / started, 2
    while path.exists():
        path, number = root / scenario / f"{started}-{number}", number + 1
    path.mkdir(parents=True)
    folder = Folder(path)
    folder.write(document)
    return folder


def unfinished(root: Path, scenario: str, wanted: str) -> Folder | None:
    """Return the newest folder of the scenario that is not complete and has the identity `wanted`; None if there is none."""
    for file in sorted((root / scenario).glob(f"*/{DOCUMENT}"), reverse=True):
        try:
            document = read(file.parent)
        except WrongInput:
            continue
        if document["identity"] == wanted and document["state"] != COMPLETE:
            return Folder(file.parent)
    return None


def read(path: Path) -> dict[str, Any]:
    """Return the document of the sweep in folder `path` (or of its sweep.json).

    Raises NotFound if there is none, WrongInput if it is not one or has another schema version.
    """
    file = path if path.name == DOCUMENT else path / DOCUMENT
    if not file.exists():
        raise NotFound(f"no {DOCUMENT} in {path}; `tweetlab sweep` writes one below {sweeps()}.")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as problem:
        raise WrongInput(f"{file} is not JSON ({problem}); restore it or run the sweep again.") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise WrongInput(f"{file} has schema_version {version!r}; this Tweetlab reads {SCHEMA_VERSION}: run the sweep again.")
    return dict(document)


def find(name: str | Path, root: Path | None = None) -> Path | None:
    """Return the folder of a sweep by path, by `sweeps/SCENARIO/UTC`, or by `sweep` or `sweep:SCENARIO` for the newest."""
    base = root or sweeps()
    text = str(name)
    for candidate in (Path(text), base / text, base.parent / text):
        folder = candidate.parent if candidate.name == DOCUMENT else candidate
        if (folder / DOCUMENT).exists():
            return folder.resolve()
    if text == "sweep" or text.startswith("sweep:"):
        pattern = f"{text.partition(':')[2] or '*'}/*/{DOCUMENT}"
        newest = sorted(base.glob(pattern), key=lambda file: file.parent.name)
        return newest[-1].parent.resolve() if newest else None
    return None
