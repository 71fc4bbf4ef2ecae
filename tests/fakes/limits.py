"""In-memory LimitStore: the same windows, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from system.kernel.resilience.rate_window import Quota, QuotaState, SlidingWindow


class MemoryLimits:
    """Rate windows in memory. `now_s`: returns the wall time."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._windows: dict[float, SlidingWindow] = {}

    async def take(self, quotas: Sequence[Quota], window_s: float) -> QuotaState:
        return self._of(window_s).take(quotas, self._now_s())

    async def add(self, counted: Mapping[str, int], window_s: float) -> None:
        self._of(window_s).add(counted, self._now_s())

    def _of(self, window_s: float) -> SlidingWindow:
        return self._windows.setdefault(window_s, SlidingWindow(window_s))
