"""How fast the machine was, window by window.

On a virtual machine the CPU time of the same work varies by a tenth to a fifth within minutes, for all processes
alike: other guests share its caches. What is common to all processes in a window is taken as the machine's slowness
there; costs are fitted to the CPU divided by it, and so hold for the machine at its median speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPREAD = 0.15  # of the slowness, before it is estimated: its standard deviation, relative
ERROR = 0.06   # of one process' CPU in a window, relative
LEAST_CORES = 0.015  # a process below this says nothing


def slowness(measured: Mapping[str, Floats], expected: Mapping[str, Floats]) -> Floats:
    """Return the slowness of each window, float64, shape (windows,), median 1.

    `measured`, `expected`: node -> CPU above idle in cores, shape (windows,), of processes whose work is steady: no JVM,
    whose compiler and collector have rhythms of their own.
    """
    windows = len(next(iter(measured.values())))
    total, weight = np.zeros(windows), np.full(windows, SPREAD**-2.0)
    for node, cores in measured.items():
        known = (cores > LEAST_CORES) & (expected[node] > LEAST_CORES)
        total[known] += np.log(cores[known] / expected[node][known]) / ERROR**2
        weight[known] += ERROR**-2.0
    slow = np.exp(total / weight)
    return np.asarray(slow / np.median(slow))


def by_second(starts_s: Sequence[float], ends_s: Sequence[float], slow: Sequence[float]) -> Callable[[float], float]:
    """Return the slowness as a function of time, s, from that of windows; 1 outside of them."""
    table = np.ones(int(max(ends_s, default=0.0)) + 2)
    for start, end, value in zip(starts_s, ends_s, slow, strict=True):
        table[int(start) : int(np.ceil(end))] = value
    known = table.tolist()
    return lambda now_s: known[int(now_s)] if now_s < len(known) else 1.0
