"""How fast the machine was.

A core of a virtual machine is often half of a physical one. While somebody else uses the other half, the same work
takes up to 1.6 times the CPU; that changes several times a second, for each core by itself (`CoreSpeed`), and its mean
drifts over minutes, for all processes alike (`slowness`). Costs are fitted to CPU divided by that drift, and so hold
for the machine at its median speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPREAD = 0.15  # of the slowness, before it is estimated: its standard deviation, relative
PROBED_SPREAD = 0.03  # the same around what the speed probe says
SENSITIVITY = 0.9  # of the work of the lab to drift: 0.89 +- 0.11 over 46 runs of 18 loads, each against its load's others
MOMENTARY = 0.65  # of the same to the two speeds of a core, which change several times a second
ERROR = 0.06   # of one process' CPU in a window, relative
LEAST_CORES = 0.015  # a process below this says nothing
LEAST_SLOW = 1.08    # a smaller difference between the two speeds is no difference
MEANS_ROUNDS = 20
LEAST_PIECES = 100
LAG_S = 0.1  # at which the correlation of a core's state is taken: states that last shorter hardly move a queue


@dataclass(frozen=True)
class CoreSpeed:
    """Two speeds of a core. `slow`: CPU of the same work when slow, relative to when fast. `share`: of the time in which it
    is slow. `changes_per_s`: rate at which its state is drawn again, 1/s. The default: one speed.
    """

    slow: float = 1.0
    share: float = 0.0
    changes_per_s: float = 0.0

    @property
    def constant(self) -> bool:
        """Whether there is only one speed."""
        return self.slow <= 1.0 or not 0.0 < self.share < 1.0 or self.changes_per_s <= 0.0


@dataclass(frozen=True)
class MachineSpeed:
    """How fast the machine was during one run, from its speed probe. `slowness`: factor on all CPU by time, s; `mean`: of it,
    relative to the machine as it was calibrated.
    """

    core_speed: CoreSpeed
    slowness: Callable[[float], float]
    mean: float


def during(starts_s: Floats, ends_s: Floats, probe_us: Floats, reference_us: float, cores: CoreSpeed) -> MachineSpeed:
    """Return the speed of the machine from the probe's means in windows (s), and its mean when calibrated."""
    slow = (probe_us / reference_us) ** SENSITIVITY
    return MachineSpeed(cores, by_second(starts_s.tolist(), ends_s.tolist(), slow.tolist()), float(slow.mean()))


def core_speed(took: Sequence[Floats], at_s: Sequence[Floats]) -> CoreSpeed:
    """Return the two speeds of a core, for the work of the lab.

    `took`: of each core, CPU times of the same piece of work, any unit, shape (n,). `at_s`: when each began, s.
    """
    logs = [np.log(np.maximum(one, 1e-9)) for one in took if len(one) > LEAST_PIECES]
    if not logs:
        return CoreSpeed()
    every = np.concatenate(logs)
    low, high = np.quantile(every, [0.1, 0.9])
    for _ in range(MEANS_ROUNDS):  # two means
        is_slow = every > (low + high) / 2.0
        if not 0 < is_slow.sum() < len(every):
            return CoreSpeed()
        low, high = float(every[~is_slow].mean()), float(every[is_slow].mean())
    if high - low < math.log(LEAST_SLOW):
        return CoreSpeed()
    share = float(is_slow.mean())
    gap_s = float(np.median(np.concatenate([np.diff(one) for one in at_s])))
    lag = max(1, round(LAG_S / gap_s))
    states = [one > (low + high) / 2.0 for one in logs]
    changed = float(np.mean(np.concatenate([one[lag:] != one[:-lag] for one in states])))
    kept = 1.0 - changed / (2.0 * share * (1.0 - share))  # correlation at the lag
    slow = math.exp(MOMENTARY * (high - low))
    return CoreSpeed(round(slow, 3), round(share, 3), round(-math.log(min(max(kept, 0.05), 0.999)) / (lag * gap_s), 2))


def slowness(measured: Mapping[str, Floats], expected: Mapping[str, Floats], probed: Floats | None = None) -> Floats:
    """Return the slowness of each window, float64, shape (windows,), median 1.

    `measured`, `expected`: node -> CPU above idle in cores, shape (windows,), of processes whose work is steady: no JVM,
    whose compiler and collector have rhythms of their own. `probed`: what the speed probe took in each window, any unit;
    without it nothing but the shape of the costs tells a slow machine from dear work.
    """
    windows = len(next(iter(measured.values())))
    start, spread = np.zeros(windows), SPREAD
    if probed is not None:
        start, spread = SENSITIVITY * np.log(probed / np.median(probed)), PROBED_SPREAD
    total, weight = start * spread**-2.0, np.full(windows, spread**-2.0)
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
