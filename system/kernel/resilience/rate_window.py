"""A sliding window rate limiter, without a clock.

The limiter in Redis (`lua/limits/take.lua`) computes the same sums.

A window of `window_s` is divided into SLOTS slots of wall time. A request counts in the slot in which it
arrives; the sum covers the current slot and the SLOTS before it, that is, the last `window_s` completely and
up to one slot more:

    in any span of `window_s` at most `limit` requests are admitted; capacity returns at most one slot late.

A refused request is not counted: a caller that waits is admitted again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SLOTS = 12        # per window: capacity returns at most a twelfth late; each costs a field of 10 bytes in Redis
MAX_KEYS = 50_000  # keys in one process: about 20 MB


@dataclass(frozen=True)
class Quota:
    """At most `limit` requests count under `key` in one window. A `limit` of 0 admits none."""

    key: str
    limit: int


@dataclass(frozen=True)
class QuotaState:
    """State of the tightest of a caller's quotas after a request.

    `remaining`: requests that would be admitted now. `reset_s`: wall time (seconds since 1970) at which the oldest counted
    requests leave the window. `wait_s`: seconds from now until then.
    """

    admitted: bool
    limit: int
    remaining: int
    reset_s: float
    wait_s: float


def span_s(window_s: float) -> float:
    """Return for how long at most a request counts: the window and the slot in which it arrived."""
    return window_s * (SLOTS + 1) / SLOTS


def slot_of(now_s: float, slot_s: float) -> int:
    """Return the number of the slot of `now_s`. The twin compiles this function."""
    return int(now_s / slot_s)


def in_window(number: int, slot: int) -> bool:
    """Return whether slot `number` is in the window that ends with `slot`. The twin compiles this function."""
    return number >= slot - SLOTS


class SlidingWindow:
    """Request counts by key. `window_s`: length of the window, in seconds."""

    def __init__(self, window_s: float) -> None:
        self._slot_s = window_s / SLOTS
        self._counts_by_key: dict[str, dict[int, int]] = {}

    def take(self, quotas: Sequence[Quota], now_s: float) -> QuotaState:
        """Count one request under every key, or under none if one of them is at its limit.

        `now_s`: wall time.
        """
        slot = slot_of(now_s, self._slot_s)
        counts_of = [self._counts(quota.key, slot) for quota in quotas]
        remaining = [quota.limit - sum(counts.values()) for quota, counts in zip(quotas, counts_of)]
        tightest = min(range(len(quotas)), key=remaining.__getitem__)
        admitted = remaining[tightest] > 0
        if admitted:
            for quota, counts in zip(quotas, counts_of):
                self._add(quota.key, counts, slot, 1)
        oldest = min(counts_of[tightest], default=slot)
        reset_s = (oldest + 1 + SLOTS) * self._slot_s
        return QuotaState(admitted, quotas[tightest].limit, max(0, remaining[tightest] - admitted), reset_s, reset_s - now_s)

    def add(self, counted: Mapping[str, int], now_s: float) -> None:
        """Count requests that were admitted elsewhere, regardless of the limit."""
        slot = slot_of(now_s, self._slot_s)
        for key, count in counted.items():
            self._add(key, self._counts(key, slot), slot, count)

    def _counts(self, key: str, slot: int) -> dict[int, int]:
        counts = self._counts_by_key.get(key)
        if counts is None:
            return {}
        for old in [number for number in counts if not in_window(number, slot)]:
            del counts[old]
        # Slots ahead mean that the clock stepped back: their requests count as of now, for one window.
        for ahead in [number for number in counts if number > slot]:
            counts[slot] = counts.get(slot, 0) + counts.pop(ahead)
        return counts

    def _add(self, key: str, counts: dict[int, int], slot: int, count: int) -> None:
        counts[slot] = counts.get(slot, 0) + count
        if key not in self._counts_by_key:
            if len(self._counts_by_key) >= MAX_KEYS:
                self._forget(slot)
            self._counts_by_key[key] = counts

    def _forget(self, slot: int) -> None:
        """Drop keys whose window has passed; if all are live, the older half (never all of them)."""
        self._counts_by_key = {key: counts for key, counts in self._counts_by_key.items()
                               if any(in_window(number, slot) for number in counts)}
        if len(self._counts_by_key) >= MAX_KEYS:
            self._counts_by_key = dict(list(self._counts_by_key.items())[MAX_KEYS // 2:])
