"""Turns the files of the load process into the tables of the record.

Runs in the caller's process, never in Locust's.

An invoke without a row is an attempt with an unknown outcome: it becomes a row with the outcome `info`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

from reports import columns
from scenarios import workload

UNKNOWN = "the load generator ended before the answer was read"


def history(folder: Path) -> pd.DataFrame:
    """Return the history of a run, one row per attempt, with the columns of `reports.columns`, by (op, attempt)."""
    rows = list(_lines(folder / "rows.jsonl"))
    ended = {(row["op"], row["attempt"]) for row in rows}
    rows += [_unknown(invoke) for invoke in _lines(folder / "invokes.jsonl") if (invoke["op"], invoke["attempt"]) not in ended]
    rows.sort(key=lambda row: (row["op"], row["attempt"]))
    return columns.conform("history", _table(columns.HISTORY, rows))


def _table(wanted: Sequence[columns.Column], rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return `rows` as a table; missing cells get the column's neutral value.

    Built by column: ids must not become floats.
    """
    return pd.DataFrame({column.name: pd.Series([row.get(column.name, column.empty) for row in rows], dtype=_dtype(column))
                         for column in wanted})


def _dtype(column: columns.Column) -> Any:
    if isinstance(column.empty, str):
        return "str"
    return object if column.empty is None else column.type.to_pandas_dtype()


def _unknown(invoke: dict[str, Any]) -> dict[str, Any]:
    row = {"due_ns": invoke["sent_ns"], **invoke, "outcome": columns.INFO, "error": UNKNOWN,
           "session": f"s{invoke.get('user', 0)}", "token_id": f"t{invoke.get('user', 0)}"}
    if invoke["attempt"]:
        row["retry_of"] = invoke["op"]
    return row


def to_parquet(folder: Path, path: Path) -> int:
    """Write the history as Parquet; return its number of rows."""
    rows = history(folder)
    pyarrow.parquet.write_table(columns.to_arrow("history", rows), path)
    return len(rows)


def probes(folder: Path) -> pd.DataFrame:
    """Return the delivery probes of a run, with the columns of `reports.columns`."""
    return columns.conform("probes", _table(columns.PROBES, list(_lines(folder / "probes.jsonl"))))


def planned(tape: workload.Tape, start_ns: int, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the planned operations: route and due_ns (monotonic), one row per operation.

    These are the operations of the tape, and second pages, which are planned as soon as their first page has
    arrived. A delete is planned like any other operation, even if no tweet of this run is left to delete.
    """
    tape_rows = pd.DataFrame({"route": [tape.routes[index] for index in tape.route.tolist()], "due_ns": tape.due_ns + start_ns})
    second = rows[(rows["op"] >= len(tape)) & (rows["attempt"] == 0) & (rows["route"] != columns.NULL_ROUTE)]
    return pd.concat([tape_rows, second[["route", "due_ns"]]], ignore_index=True)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSONL file; a last line that a kill truncated is left out."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue
