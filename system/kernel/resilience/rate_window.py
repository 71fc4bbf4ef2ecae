"""A moving window that counts requests, without a clock. The limits in Redis (`lua/limits/take.lua`) do the same sums.

A window of `window_s` is cut into SLOTS slots of wall time. A request counts in the slot in which it came; the sum is taken
over the running slot and the SLOTS before it, so it covers the last `window_s` in whole and up to one slot more:

    in any span of `window_s` at most `limit` requests are admitted; room comes back at most one slot late.

A refused request is not counted: whoever waits gets in again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SLOTS = 12        # of one window: room comes back at most a twelfth late; each costs a field of 10 bytes in Redis
MAX_KEYS = 50_000  # keys in one process: about 20 MB


@dataclass(frozen=True)
class Quota:
    """At most `limit` requests count under `key` in one window. A `limit` of 0 admits none."""

    key: str
    limit: int


@dataclass(frozen=True)
class Standing:
    """How a caller stands after a request, in the tightest of his quotas.

    `remaining`: requests that would be admitted now. `reset_s`: wall time (seconds since 1970) at which the oldest counted
    requests leave the window. `wait_s`: seconds from now until then.
    """

    admitted: bool
    limit: int
    remaining: int
    reset_s: float
    wait_s: float


def span_s(window_s: float) -> float:
    """Return for how long at most a request counts: the window, and the slot in which it came."""
    return window_s * (SLOTS + 1) / SLOTS


class Windows:
    """Counts by key. `window_s`: length of the window."""

    def __init__(self, window_s: float) -> None:
        self._slot_s = window_s / SLOTS
        self._kept: dict[str, dict[int, int]] = {}

    def take(self, quotas: Sequence[Quota], now_s: float) -> Standing:
        """Count one request under every key, or under none where one of them is full. `now_s`: wall time."""
        slot = int(now_s / self._slot_s)
        found = [self._counts(quota.key, slot) for quota in quotas]
        left = [quota.limit - sum(counts.values()) for quota, counts in zip(quotas, found)]
        tightest = min(range(len(quotas)), key=left.__getitem__)
        admitted = left[tightest] > 0
        if admitted:
            for quota, counts in zip(quotas, found):
                self._add(quota.key, counts, slot, 1)
        oldest = min(found[tightest], default=slot)
        reset_s = (oldest + 1 + SLOTS) * self._slot_s
        return Standing(admitted, quotas[tightest].limit, max(0, left[tightest] - admitted), reset_s, reset_s - now_s)

    def add(self, counted: Mapping[str, int], now_s: float) -> None:
        """Count requests that were admitted elsewhere, whatever the limit."""
        slot = int(now_s / self._slot_s)
        for key, count in counted.items():
            self._add(key, self._counts(key, slot), slot, count)

    def _counts(self, key: str, slot: int) -> dict[int, int]:
        counts = self._kept.get(key)
        if counts is None:
            return {}
        for old in [each for each in counts if each < slot - SLOTS]:
            del counts[old]
        for ahead in [each for each in counts if each > slot]:  # the clock stepped back: it counts from now on, for one window
            counts[slot] = counts.get(slot, 0) + counts.pop(ahead)
        return counts

    def _add(self, key: str, counts: dict[int, int], slot: int, count: int) -> None:
        counts[slot] = counts.get(slot, 0) + count
        if key not in self._kept:
            if len(self._kept) >= MAX_KEYS:
                self._forget(slot)
            self._kept[key] = counts

    def _forget(self, slot: int) -> None:
        """Make room: drop keys whose window is over; where all are live, the older half (never silently all of them)."""
        self._kept = {key: counts for key, counts in self._kept.items() if any(each >= slot - SLOTS for each in counts)}
        if len(self._kept) >= MAX_KEYS:
            self._kept = dict(list(self._kept.items())[MAX_KEYS // 2:])
