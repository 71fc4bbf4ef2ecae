"""The folder of a run: written atomically and read lazily.

    runs/<scenario>/<UTC time>/     record.json history.parquet series.parquet effects.parquet probes.parquet
                                    faults.json invariants.json histograms/ logs/ report.html twin/
    runs/latest                     symlink to the newest run (of the real system, or of the twin alone)

A run is built in a hidden folder next to its target, flushed to disk, and renamed: a crash leaves a hidden
folder, never a partial record. Later additions are renamed into place: the twin's folder, the report file.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reports import columns, schema
from system.kernel import errors

RECORD = "record.json"
LATEST = "latest"
TWIN = "twin"
LONE_SURROGATES = "backslashreplace"  # a lone surrogate from a file name on a command line becomes JSON's \udc80


@dataclass(frozen=True)
class Parts:
    """The contents of a run's files. `histograms`: file stem -> V2 log; `logs`: name -> text."""

    document: Mapping[str, Any]
    history: pd.DataFrame
    series: pd.DataFrame
    effects: pd.DataFrame
    probes: pd.DataFrame
    faults: list[Mapping[str, Any]]
    invariants: list[Mapping[str, Any]]
    histograms: Mapping[str, str]
    logs: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A run on disk. Its tables are read on first access and cached."""

    path: Path
    document: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """'system' or 'twin'."""
        return str(self.document["kind"])

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        return str(self.document["scenario"]["name"])

    @property
    def run_id(self) -> str:
        """The run's id, scenario/time."""
        return str(self.document["run_id"])

    @property
    def summary(self) -> Mapping[str, Any]:
        """The summary block of the record."""
        block: Mapping[str, Any] = self.document["summary"]
        return block

    @property
    def start_ns(self) -> int:
        """Monotonic time of the start of the load."""
        return int(self.document["clock"]["start_monotonic_ns"])

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per attempt; see columns.HISTORY."""
        return self._table("history")

    @cached_property
    def series(self) -> pd.DataFrame:
        """Long form, 1 s windows; see columns.SERIES."""
        return self._table("series")

    @cached_property
    def effects(self) -> pd.DataFrame:
        """The effects of the workers; see columns.EFFECTS."""
        return self._table("effects")

    @cached_property
    def probes(self) -> pd.DataFrame:
        """The results of the API probes; see columns.PROBES."""
        return self._table("probes")

    @cached_property
    def twin(self) -> Run | None:
        """The twin's run of the same scenario, or None."""
        return read(self.path / TWIN) if (self.path / TWIN / RECORD).exists() else None

    def _table(self, name: str) -> pd.DataFrame:
        path = self.path / f"{name}.parquet"
        if not path.exists():
            return columns.conform(name, None)
        return columns.conform(name, pq.read_table(path).to_pandas())


def write(runs: Path, parts: Parts, *, make_latest: bool = True) -> Run:
    """Write a new run folder `runs`/<run_id> and point `runs`/latest to it.

    If the folder exists, -2, -3, ... is appended to the id. Raises WrongInput if the document violates the schema
    (no files remain), CouldNotRun if a write fails.
    """
    run_id = str(parts.document["run_id"])
    target = _free(runs / run_id)
    document = {**parts.document, "run_id": str(target.relative_to(runs))}
    path = _write_folder(target, parts, document)
    if make_latest:
        _point(runs / LATEST, target)
    return Run(path, document)


def attach_twin(run: Run, parts: Parts) -> Run:
    """Write the twin's run to <run>/twin, replacing an existing one. Return the twin."""
    target = run.path / TWIN
    if target.exists():
        shutil.rmtree(target)
    path = _write_folder(target, parts, parts.document)
    run.__dict__.pop("twin", None)
    return Run(path, parts.document)


def amend(run: Run, **changes: Any) -> Run:
    """Replace top-level blocks of record.json; the tables stay. Return the amended run."""
    document = {**run.document, **changes}
    schema.check(document, str(run.path / RECORD))
    write_text(run.path / RECORD, _json(document))
    return Run(run.path, document)


def read(path: Path) -> Run:
    """Return the run in folder `path` (its record.json, or a link such as runs/latest, are also accepted).

    Raises NotFound if there is no record, WrongInput if it is invalid or of an unsupported schema version.
    """
    folder = path.parent if path.name == RECORD else path
    file = folder / RECORD
    if not file.exists():
        raise errors.NotFound(f"no {RECORD} in {folder}; `tweetlab list runs` lists all runs.")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        message = f"{file} is not JSON ({error}); it was changed by hand: restore or remove it."
        raise errors.WrongInput(message) from error
    document = schema.upgraded(document)
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != schema.SCHEMA_VERSION:
        raise errors.WrongInput(
            f"{file} has schema_version {version!r}; this Tweetlab reads {schema.SCHEMA_VERSION}: "
            f"read it with the commit that wrote it."
        )
    schema.check(document, str(file))
    return Run(folder.resolve(), document)


def find(runs: Path, name: str = LATEST) -> Run:
    """Return a run by 'latest', by scenario (its newest), by scenario/time, or by path.

    Raises NotFound if no run matches, and the errors of `read`.
    """
    for candidate in (runs / name, Path(name)):
        if (candidate / RECORD).exists() or candidate.name == RECORD:
            return read(candidate)
    newest = [run for run in all_runs(runs) if run.parent.name == name]
    if newest:
        return read(newest[-1])
    raise errors.NotFound(f"no run named {name!r} in {runs}; `tweetlab list runs` lists all runs.")


def all_runs(runs: Path) -> list[Path]:
    """Return the folders of all finished runs, oldest first."""
    folders = [file.parent for file in runs.glob(f"*/*/{RECORD}") if not file.parent.name.startswith(".")]
    finished = [folder for folder in folders if folder.parent.name != LATEST]
    return sorted(finished, key=lambda folder: (folder.name, str(folder)))


def write_text(path: Path, text: str) -> None:
    """Write `path` atomically (temporary file, fsync, rename): readers see the old or the new text, never a part.

    Raises CouldNotRun if a write fails.
    """
    with _disk(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", errors=LONE_SURROGATES) as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)


class _disk:
    """Converts an OSError into CouldNotRun that names the path and the fix."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            fix = "free some space or choose another folder for runs"
            message = f"cannot write {self.path}: {error.strerror or error}; {fix}."
            raise errors.CouldNotRun(message) from error


def _write_folder(target: Path, parts: Parts, document: Mapping[str, Any]) -> Path:
    schema.check(document, str(target / RECORD))
    tables = {name: columns.to_arrow(name, getattr(parts, name)) for name in columns.TABLES}
    with _disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            _fill(hidden, parts, tables, document)
            os.chmod(hidden, 0o755)
            os.rename(hidden, target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
    return target


def _fill(folder: Path, parts: Parts, tables: Mapping[str, pa.Table], document: Mapping[str, Any]) -> None:
    texts = {
        **{f"histograms/{stem}.hlog": text for stem, text in parts.histograms.items()},
        **{f"logs/{Path(name).name}": text for name, text in parts.logs.items()},
        "faults.json": _json(parts.faults),
        "invariants.json": _json(parts.invariants),
    }
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
        _sync(folder / f"{name}.parquet")
    for name, text in [*texts.items(), (RECORD, _json(document))]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", errors=LONE_SURROGATES)
        _sync(folder / name)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _free(path: Path) -> Path:
    """Return `path`, or the first of path-2, path-3, ... that is free if a run of the same second exists."""
    candidate, n = path, 2
    while candidate.exists():
        candidate, n = path.with_name(f"{path.name}-{n}"), n + 1
    return candidate


def _point(link: Path, target: Path) -> None:
    """Point a symlink to `target`, atomically."""
    with _disk(link):
        hidden = link.with_name(f".{link.name}-{os.getpid()}")
        hidden.unlink(missing_ok=True)
        hidden.symlink_to(os.path.relpath(target, link.parent))
        os.replace(hidden, link)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=_plain, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Convert numpy scalars and paths to JSON types. Raises TypeError for anything else."""
    if hasattr(value, "item"):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a record cannot contain a {type(value).__name__}: {value!r}")
