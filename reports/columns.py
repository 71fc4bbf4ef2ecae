"""The tables of a run: the columns of history, series, effects and probes, with types and units.

Real and simulated runs use the same columns. A missing column is filled with its default; an unlisted column is
an error, so that a misspelled name is noticed. All `*_ns` are CLOCK_MONOTONIC of the machine (simulation time
for a twin); 0 = did not happen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from system.kernel import errors

OK, FAIL, INFO = "ok", "fail", "info"
NOBODY = -1  # `user` of a row without a user
NULL_ROUTE = "null"  # answered by HAProxy itself; probed at 10/s, never part of the workload


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, the default for a cell without a value, its meaning."""

    name: str
    type: pa.DataType
    empty: Any
    meaning: str


_I64, _I32, _I16, _TEXT = pa.int64(), pa.int32(), pa.int16(), pa.string()
_F64, _F32, _IDS = pa.float64(), pa.float32(), pa.list_(pa.int64())

HISTORY = (
    Column("op", _I64, -1, "number of the operation; one row per attempt"),
    Column("attempt", _I16, 0, "0 = first attempt"),
    Column("retry_of", _I64, -1, "operation that this attempt retries; -1 = none"),
    Column("route", _TEXT, "", "route of the mix: home, post, ..."),
    Column("user", _I64, NOBODY, "acting user"),
    Column("session", _TEXT, "", "session of that user"),
    Column("due_ns", _I64, 0, "intended start"),
    Column("sent_ns", _I64, 0, "actual send; 0 = never sent"),
    Column("done_ns", _I64, 0, "response fully read, or request abandoned; 0 = neither"),
    Column("outcome", _TEXT, INFO, "ok = 2xx fully read; fail = definitely no effect; info = unknown, may have happened"),
    Column("status", _I16, 0, "HTTP status; 0 = no response"),
    Column("error", _TEXT, "", "why it was not ok"),
    Column("key", _TEXT, "", "idempotency key"),
    Column("body_sha", _TEXT, "", "hash of the body sent"),
    Column("tweet_id", _I64, 0, "tweet written, 0 = none"),
    Column("target", _I64, 0, "followee, deleted tweet or user read"),
    Column("page_ids", _IDS, None, "tweet ids of the page, in the order received"),
    Column("page_authors", _IDS, None, "their authors"),
    Column("cursor_in", _TEXT, "", "pagination token sent"),
    Column("cursor_out", _TEXT, "", "next_token received"),
    Column("scanned_low", _I64, 0, "lowest tweet id that the page covers"),
    Column("source", _TEXT, "", "hit, rebuild, direct or tail; ',pull' if pulled authors were merged"),
    Column("instance", _TEXT, "", "serving instance"),
    Column("trace", _TEXT, "", "trace id"),
    Column("bytes", _I32, 0, "bytes of the response body"),
    Column("gateway_us", _F32, math.nan, "time inside the gateway, µs; NaN = not reported"),
    Column("service_us", _F32, math.nan, "time inside the service behind it, µs"),
    Column("store_us", _F32, math.nan, "time inside the stores, µs"),
    Column("address", _TEXT, "", "address connected to"),
    Column("region", _TEXT, "", "region that served"),
    Column("token_id", _TEXT, "", "id of the token used"),
)

SERIES = (
    Column("t_s", _F64, 0.0, "start of the window, s from the start of the run"),
    Column("name", _TEXT, "", "name of the series: rate.sent, p99, cpu_cores, rss_mib, lag, ..."),
    Column("route", _TEXT, "", "route, if the value is of one route"),
    Column("node", _TEXT, "", "process or consumer group, if the value is of one"),
    Column("value", _F64, math.nan, "unit as in the name; latencies in ms, rates in 1/s"),
)

EFFECTS = (
    Column("group", _TEXT, "", "consumer group"),
    Column("event", _TEXT, "", "event id: the tweet id for new_tweet (a twin may put the topic here, the id in key)"),
    Column("key", _TEXT, "", "key of the record: author, or follower"),
    Column("kind", _TEXT, "", "topic: new_tweet, tweet_deleted, new_follow"),
    Column("applied", pa.bool_(), True, "True if there was something to do and it was done"),
    Column("path", _TEXT, "", "push, pull, skip, back_fill, purge, remove or index"),
    Column("targets", _I64, 0, "timelines or documents changed"),
    Column("at_ns", _I64, 0, "after the last chunk"),
    Column("wall_ms", _I64, 0, "the same moment, wall clock"),
    Column("retries", _I32, 0, "attempts beyond the first"),
)

PROBES = (
    Column("tweet_id", _I64, 0, "tweet probed"),
    Column("follower", _I64, 0, "follower whose home timeline is polled through the API"),
    Column("seen_ns", _I64, 0, "end of the first poll that returned it; 0 = never seen"),
    Column("gap_ns", _I64, 0, "from sending the last poll without the tweet to the reply of that poll"),
)

TABLES = {"history": HISTORY, "series": SERIES, "effects": EFFECTS, "probes": PROBES}


def schema(table: str) -> pa.Schema:
    """Return the Arrow schema of one table, as written to Parquet."""
    return pa.schema([(column.name, column.type) for column in TABLES[table]])


def conform(table: str, frame: pd.DataFrame | None) -> pd.DataFrame:
    """Return `frame` with exactly the columns of `table`, in their order; None means no rows.

    Missing columns are filled with their defaults. Raises WrongInput for an unknown column.
    """
    known = TABLES[table]
    rows = pd.DataFrame() if frame is None else frame
    unknown = sorted(set(rows.columns) - {column.name for column in known})
    if unknown:
        names = ", ".join(column.name for column in known)
        raise errors.WrongInput(f"{table} has unknown columns {unknown}; known are {names}; rename or drop them.")
    return pd.DataFrame({column.name: _values(rows, column) for column in known})


def _values(frame: pd.DataFrame, column: Column) -> pd.Series[Any]:
    if column.type == _IDS:
        return _lists(frame, column)
    dtype = "str" if column.type == _TEXT else column.type.to_pandas_dtype()
    if column.name not in frame.columns:
        return pd.Series([column.empty] * len(frame), dtype=dtype, index=frame.index)
    values = frame[column.name]
    filled = values if values.notna().all() or isinstance(column.empty, float) else values.fillna(column.empty)
    return filled.astype(dtype)  # type: ignore[arg-type]


def _lists(frame: pd.DataFrame, column: Column) -> pd.Series[Any]:
    if column.name in frame.columns:
        return frame[column.name]
    return pd.Series([None] * len(frame), dtype=object, index=frame.index)


def to_arrow(table: str, frame: pd.DataFrame) -> pa.Table:
    """Return an Arrow table with the types of `table`. Raises WrongInput if a value does not fit its type."""
    try:
        return pa.Table.from_pandas(frame, schema=schema(table), preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        message = f"{table} does not match its column types: {error}; see reports/columns.py."
        raise errors.WrongInput(message) from error
