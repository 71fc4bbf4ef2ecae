"""CPU of each process by window, from a run's samples, and the windows in which the accounts close.

A window is 5 s long and lies within one stage of the load. It *closes* if the CPU that no listed process owns
is at most 3 % of the host's busy time or 0.03 core, whichever is more: then nothing else was running. CPU of
other programs makes every process slower and its own CPU dearer, so a window that does not close is dropped from
every fit, and that CPU never becomes part of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from system.kernel.errors import WrongInput

Floats = NDArray[np.float64]

WINDOW_S = 5.0
CLOSES_SHARE = 0.03   # of the host's busy time
CLOSES_CORES = 0.03
MOST_DROPPED = 0.2    # share of windows; with more, the run is neither a calibration nor a validation


@dataclass(frozen=True)
class Accounts:
    """CPU by window.

    `starts_s`, `ends_s`: float64, shape (windows,), from the start of the load. `stage`: int64, shape (windows,),
    index of the stage. `cores`: node -> float64, shape (windows,). `busy_cores`, `foreign_cores`: of the host, and
    those that no listed process owns. `closed`: bool, shape (windows,). `probe_us`: mean CPU of one piece of work of the speed
    probe, µs, shape (windows,); None if there was none.
    """

    starts_s: Floats
    ends_s: Floats
    stage: NDArray[np.int64]
    cores: Mapping[str, Floats]
    busy_cores: Floats
    foreign_cores: Floats
    closed: NDArray[np.bool_]
    probe_us: Floats | None = None

    @property
    def dropped(self) -> float:
        """Share of the windows that do not close; 1 without windows."""
        return 1.0 - float(self.closed.mean()) if len(self.closed) else 1.0

    @property
    def counts(self) -> bool:
        """Whether enough windows close for a calibration or a validation."""
        return self.dropped <= MOST_DROPPED


def of_run(series: pd.DataFrame, stages: Sequence[tuple[float, float]]) -> Accounts:
    """Return the accounts of a run. `stages`: (start, end) of each, s. Raises WrongInput without CPU samples."""
    cpu = series[(series["name"] == "cpu_cores") & series["value"].notna()]
    host = series[(series["name"] == "host_busy_cores") & series["value"].notna()]
    if cpu.empty or host.empty:
        raise WrongInput("The record has no `cpu_cores` series; calibrate from a run of the real system.")
    bounds = [(start, min(start + WINDOW_S, end), number) for number, (first, end) in enumerate(stages)
              for start in np.arange(first, end - 1e-9, WINDOW_S)]
    bounds = [one for one in bounds if one[1] - one[0] >= WINDOW_S / 2]
    starts, ends = np.asarray([one[0] for one in bounds]), np.asarray([one[1] for one in bounds])
    cores = {str(node): _mean(rows, starts, ends) for node, rows in cpu.groupby("node")}
    busy = _mean(host, starts, ends)
    foreign = busy - np.sum(list(cores.values()), axis=0)
    return Accounts(starts, ends, np.asarray([one[2] for one in bounds]), cores, busy, foreign, closes(busy, foreign),
                    _probe_us(series, starts, ends))


def _probe_us(series: pd.DataFrame, starts: Floats, ends: Floats) -> Floats | None:
    pieces, took = (series[(series["name"] == name) & series["value"].notna()] for name in ("probes", "probe_us"))
    if pieces.empty or took.empty:
        return None
    count = _mean(pieces, starts, ends)
    return np.asarray(_mean(took, starts, ends) / np.maximum(count, 1e-9)) if (count > 0.0).all() else None


def closes(busy_cores: Floats, foreign_cores: Floats) -> NDArray[np.bool_]:
    """Return, for each window, whether its foreign CPU is small enough; arrays of shape (windows,)."""
    return np.asarray(np.abs(foreign_cores) <= np.maximum(CLOSES_SHARE * busy_cores, CLOSES_CORES))


def _mean(rows: pd.DataFrame, starts: Floats, ends: Floats) -> Floats:
    """Return the mean of a sampled rate in each window; a sample holds until the next one."""
    ordered = rows.sort_values("t_s")
    at, value = ordered["t_s"].to_numpy(np.float64), ordered["value"].to_numpy(np.float64)
    length = np.diff(at, append=at[-1] + (np.median(np.diff(at)) if len(at) > 1 else 1.0))
    total = np.concatenate([[0.0], np.cumsum(value * length)])
    grid = np.append(at, at[-1] + length[-1])
    inside = np.interp(ends, grid, total) - np.interp(starts, grid, total)
    known = np.minimum(ends, grid[-1]) - np.maximum(starts, grid[0])
    return np.asarray(inside / np.maximum(known, 1e-9))


def stages_of(document: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return (start, end) of each stage of a record's scenario, s from the start of the load."""
    found, start = [], 0.0
    for stage in document["scenario"]["resolved"]["workload"]["stages"]:
        found.append((start, start + float(stage["for_s"])))
        start += float(stage["for_s"])
    return found
