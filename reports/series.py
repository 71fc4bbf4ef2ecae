"""The 1 s series that are derived from a run's history: rates, percentiles, errors, operations in flight.

The runner supplies the series that it alone can measure (CPU, memory, lag, steal). The others are computed here
from the operations, so that a live table and the record use the same windows. An operation belongs to the
second of its intended start.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from reports import columns, facts
from reports.judge import validity
from reports.stats import histogram

WINDOW_S = 1.0
PERCENTILES = ("p50", "p95", "p99", "p999")

Rows = list[tuple[float, str, str, str, float]]


def complete(
    recorded: pd.DataFrame, done: pd.DataFrame, plan: pd.DataFrame, windows: facts.Windows
) -> pd.DataFrame:
    """Return `recorded` plus every series derived from the history that it does not contain yet."""
    computed = pd.concat(
        [rates(done, plan, windows), percentiles(done), flight(done, windows)], ignore_index=True
    )
    missing = computed[~computed["name"].isin(set(recorded["name"]))]
    frames = [frame for frame in (recorded, missing) if len(frame)]
    joined = pd.concat(frames, ignore_index=True) if len(computed) else recorded
    return columns.conform("series", joined)


def rates(done: pd.DataFrame, plan: pd.DataFrame, windows: facts.Windows) -> pd.DataFrame:
    """Return rate.planned, rate.sent, rate.ok, rate.fail, rate.info of all routes, per second of intended start."""
    seconds = np.arange(0.0, np.ceil(windows.load_s), WINDOW_S)
    edges = np.append(seconds, seconds[-1] + WINDOW_S) if len(seconds) else np.array([0.0, WINDOW_S])
    parts = {
        "rate.planned": plan["due_s"],
        "rate.sent": done[done["was_sent"]]["due_s"],
        **{f"rate.{word}": done[done["outcome"] == word]["due_s"] for word in ("ok", "fail", "info")},
    }
    frames = []
    for name, due_s in parts.items():
        counts, _ = np.histogram(due_s.to_numpy(), bins=edges)
        frames.append(_frame(edges[:-1], name, "", counts / WINDOW_S))
    return pd.concat(frames, ignore_index=True)


def percentiles(done: pd.DataFrame) -> pd.DataFrame:
    """Return p50, p95, p99, p999 (ms, response) of each route for each second with an OK operation."""
    good = done[(done["outcome"] == columns.OK) & done["response_ms"].notna()]
    rows: Rows = []
    seconds = good.assign(second=np.floor(good["due_s"]))
    for key, values in seconds.groupby(["route", "second"])["response_ms"]:
        route, second = key if isinstance(key, tuple) else (key, 0.0)
        figures = histogram.describe(values.to_numpy())
        rows.extend((float(str(second)), name, str(route), "", figures[name] or 0.0) for name in PERCENTILES)
    return pd.DataFrame(rows, columns=[column.name for column in columns.SERIES])


def flight(done: pd.DataFrame, windows: facts.Windows) -> pd.DataFrame:
    """Return in_flight: operations due and not yet ended, mean of ten samples per second."""
    seconds = np.arange(0.0, np.ceil(windows.load_s), WINDOW_S)
    samples_s = seconds[:, None] + np.arange(0.05, 1.0, 0.1)[None, :]
    counts = validity.in_flight(done, samples_s.ravel()).reshape(samples_s.shape)
    return _frame(seconds, "in_flight", "", counts.mean(axis=1))


def _frame(t_s: np.ndarray, name: str, route: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"t_s": t_s, "name": name, "route": route, "node": "", "value": values.astype(float)})
