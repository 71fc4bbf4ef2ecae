"""The 1 s windows of a run that follow from its history: rates, percentiles, errors, number in flight.

The runner brings what only it can see (CPU, memory, lag, steal). What the history already tells is computed
here, from the operations, so that a live table and the record can never differ in what a second means. An
operation belongs to the second of its intended start.
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


def complete(told: pd.DataFrame, done: pd.DataFrame, plan: pd.DataFrame, windows: facts.Windows) -> pd.DataFrame:
    """`told` plus every series that follows from the history and that `told` does not hold already."""
    computed = pd.concat(
        [rates(done, plan, windows), percentiles(done), flight(done, windows)], ignore_index=True
    )
    missing = computed[~computed["name"].isin(set(told["name"]))]
    joined = pd.concat([frame for frame in (told, missing) if len(frame)], ignore_index=True) if len(computed) else told
    return columns.conform("series", joined)


def rates(done: pd.DataFrame, plan: pd.DataFrame, windows: facts.Windows) -> pd.DataFrame:
    """rate.planned, rate.sent, rate.ok, rate.fail, rate.info of all routes together, per second of intended start."""
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
    """p50, p95, p99, p999 (ms, response) of each route in each second that holds an OK operation."""
    good = done[(done["outcome"] == columns.OK) & done["response_ms"].notna()]
    rows: Rows = []
    seconds = good.assign(second=np.floor(good["due_s"]))
    for key, values in seconds.groupby(["route", "second"])["response_ms"]:
        route, second = key if isinstance(key, tuple) else (key, 0.0)
        told = histogram.describe(values.to_numpy())
        rows.extend((float(str(second)), name, str(route), "", told[name] or 0.0) for name in PERCENTILES)
    return pd.DataFrame(rows, columns=[column.name for column in columns.SERIES])


def flight(done: pd.DataFrame, windows: facts.Windows) -> pd.DataFrame:
    """in_flight: operations due and not yet ended, mean of ten looks in each second."""
    seconds = np.arange(0.0, np.ceil(windows.load_s), WINDOW_S)
    looks = seconds[:, None] + np.arange(0.05, 1.0, 0.1)[None, :]
    return _frame(seconds, "in_flight", "", validity.in_flight(done, looks.ravel()).reshape(looks.shape).mean(axis=1))


def _frame(t_s: np.ndarray, name: str, route: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"t_s": t_s, "name": name, "route": route, "node": "", "value": values.astype(float)})
