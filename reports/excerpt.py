"""A run small enough to ship: its anonymized record, and of its tables what the figures need.

    excerpt.write(run, Path("notebooks/data/flash_crowd"))     # a folder that record.read opens like any other run

Left out: tweet ids, pages, keys, traces, addresses. Times are rounded to a microsecond, CPU to a tenth of a millicore.
A reader fills missing columns with their defaults (`reports.columns`), so tables and figures work as on the full run.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reports import columns, publish, record
from system.kernel import errors

HISTORY = ("op", "attempt", "retry_of", "route", "user", "due_ns", "sent_ns", "done_ns", "outcome", "status", "source",
           "gateway_us", "service_us", "store_us")
EFFECTS = ("group", "event", "kind", "path", "targets", "at_ns")
SERIES = ("cpu_cores", "host_busy_cores", "instances", "lag", "rss_mib")
TIMES = ("due_ns", "sent_ns", "done_ns", "at_ns")
ROUNDED = ("gateway_us", "service_us", "store_us")


def write(run: record.Run, target: Path, routes: tuple[str, ...] = (), until_s: float = math.inf, *,
          limit_bytes: int = publish.LIMIT_BYTES) -> int:
    """Write the excerpt of `run` to the folder `target`; return its size in bytes.

    `routes`: keep only their operations; () keeps all. `until_s`: keep the first seconds of the load only; the summary in the
    record stays that of the whole run. Raises WrongInput, and leaves nothing, if the folder would be larger
    than `limit_bytes` or contain identifying text.
    """
    owner = publish.Owner.of_this_machine()
    kept = {"routes": list(routes), "until_s": None if until_s == math.inf else until_s}
    document = publish.redact({**run.document, "excerpt": kept}, owner)
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, default=str) + "\n"
    publish.refuse_identifying({record.RECORD: text}, owner)
    tables = {"history": _history(run, routes, until_s), "series": _series(run, until_s), "effects": _effects(run)}
    target.mkdir(parents=True, exist_ok=True)
    (target / record.RECORD).write_text(text, encoding="utf-8")
    for name, frame in tables.items():
        schema = pa.schema([field for field in columns.schema(name) if field.name in frame.columns])
        packed = [column for column in frame.columns if column in (*TIMES, "op", "retry_of", "user", "targets")]
        pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), target / f"{name}.parquet",
                       compression="zstd", compression_level=19, use_dictionary=[c for c in frame.columns if c not in packed],
                       column_encoding=dict.fromkeys(packed, "DELTA_BINARY_PACKED"))
    size = sum(file.stat().st_size for file in target.iterdir() if file.is_file())
    if size > limit_bytes:
        for file in target.iterdir():
            file.unlink()
        target.rmdir()
        raise errors.WrongInput(f"The excerpt of {run.run_id} takes {size:,} bytes; at most {limit_bytes:,} are allowed: keep "
                                "fewer routes, or a shorter run.")
    return size


def _history(run: record.Run, routes: tuple[str, ...], until_s: float) -> pd.DataFrame:
    rows = run.history
    rows = rows[(rows["due_ns"] - run.start_ns) / 1e9 < until_s]
    rows = rows[rows["route"].isin(routes)] if routes else rows[rows["route"] != columns.NULL_ROUTE]
    return _rounded(rows[list(HISTORY)].sort_values("due_ns", kind="stable"))


def _series(run: record.Run, until_s: float) -> pd.DataFrame:
    rows = run.series
    rows = rows[rows["name"].isin(SERIES) & rows["value"].notna() & (rows["t_s"] < until_s)]
    return rows.assign(t_s=rows["t_s"].round(3), value=rows["value"].round(4))


def _effects(run: record.Run) -> pd.DataFrame:
    rows = run.effects
    rows = rows[(rows["group"] == "fanout") & (rows["kind"] == "new_tweet")]
    numbers = {event: str(number) for number, event in enumerate(dict.fromkeys(rows["event"]))}
    return _rounded(rows.assign(event=rows["event"].map(numbers))[list(EFFECTS)])


def _rounded(rows: pd.DataFrame) -> pd.DataFrame:
    times = {name: np.asarray(np.where(rows[name] > 0, rows[name] // 1000 * 1000, rows[name]), np.int64)
             for name in TIMES if name in rows.columns}
    parts = {name: rows[name].round(0) for name in ROUNDED if name in rows.columns}
    return rows.assign(**times, **parts)
