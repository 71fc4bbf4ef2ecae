"""The sliding window: never more than the limit in any span; capacity returns at most one slot late."""

from __future__ import annotations

import random

import pytest

from system.kernel.resilience import rate_window
from system.kernel.resilience.rate_window import SLOTS, Quota, SlidingWindow

THREE = [Quota("ann", 3)]


def test_a_caller_gets_its_limit_and_no_more():
    """Three of three; `remaining` counts down; the reset is when the first of them leaves the window."""
    window = SlidingWindow(60.0)
    results = [window.take(THREE, 1_000.0) for _ in range(4)]

    assert [result.admitted for result in results] == [True, True, True, False]
    assert [result.remaining for result in results] == [2, 1, 0, 0]
    assert {result.reset_s for result in results} == {1_065.0}
    assert results[3].wait_s == 65.0


def test_requests_counted_before_a_clock_step_back_still_count():
    """As of now and for one window: neither lost nor kept for the duration of the step."""
    window = SlidingWindow(60.0)
    for _ in range(3):
        window.take(THREE, 10_000.0)

    refused = window.take(THREE, 1_000.0)

    assert not refused.admitted and refused.wait_s <= 65.0
    assert window.take(THREE, 1_000.0 + refused.wait_s).admitted


def test_a_refused_request_is_not_counted():
    """A caller that keeps retrying is admitted as soon as one that waits."""
    window = SlidingWindow(60.0)
    for _ in range(50):
        window.take(THREE, 1_000.0)

    assert window.take(THREE, 1_065.0).admitted


def test_capacity_returns_as_the_oldest_requests_expire():
    """A sliding window, not a fixed one that resets."""
    window = SlidingWindow(60.0)
    for at_s in (1_000.0, 1_030.0, 1_050.0):
        assert window.take(THREE, at_s).admitted

    assert not window.take(THREE, 1_064.9).admitted
    assert window.take(THREE, 1_065.0).admitted
    assert not window.take(THREE, 1_065.0).admitted


@pytest.mark.parametrize("seed", range(5))
def test_no_span_of_a_window_ever_holds_more_than_the_limit(seed):
    """The guarantee itself, at random times; and no caller waits longer than a window and a slot."""
    draw, window, now_s, admitted = random.Random(seed), SlidingWindow(6.0), 1_000.0, []
    for _ in range(2_000):
        now_s += draw.expovariate(3.0)
        if window.take([Quota("ann", 7)], now_s).admitted:
            admitted.append(now_s)

    spans = [late - early for early, late in zip(admitted, admitted[7:])]
    assert min(spans) >= 6.0
    assert min(spans) <= 6.0 * (1 + 1 / SLOTS) + 1.0


def test_one_exhausted_quota_refuses_and_no_quota_counts_the_request():
    """All or nothing: a refused request does not use the other quotas."""
    window = SlidingWindow(60.0)
    window.take([Quota("all", 1)], 1_000.0)

    refused = window.take([Quota("home", 10), Quota("all", 1)], 1_000.0)
    alone = window.take([Quota("home", 10)], 1_000.0)

    assert (refused.admitted, refused.limit) == (False, 1)
    assert alone.remaining == 9


def test_a_limit_of_zero_admits_nothing():
    """This is the share of a limit that is below the number of gateways."""
    assert not SlidingWindow(60.0).take([Quota("ann", 0)], 1_000.0).admitted


def test_requests_admitted_elsewhere_count_regardless_of_the_limit():
    """And they expire like all others."""
    window = SlidingWindow(60.0)
    window.add({"ann": 5}, 1_000.0)

    assert not window.take(THREE, 1_001.0).admitted
    assert window.take(THREE, 1_065.0).admitted


def test_too_many_keys_evict_the_oldest(monkeypatch):
    """A flood of callers does not exhaust memory, and the counters of the newest are kept."""
    monkeypatch.setattr(rate_window, "MAX_KEYS", 10)
    window = SlidingWindow(60.0)
    for number in range(25):
        window.take([Quota(f"user {number}", 1)], 1_000.0)

    assert not window.take([Quota("user 24", 1)], 1_000.0).admitted
    assert len(window._counts_by_key) <= 11
