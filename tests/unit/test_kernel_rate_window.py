"""The moving window: never more than the limit in any span, room back at most a slot late."""

from __future__ import annotations

import random

import pytest

from system.kernel.resilience import rate_window
from system.kernel.resilience.rate_window import SLOTS, Quota, Windows

THREE = [Quota("ann", 3)]


def test_a_caller_gets_his_limit_and_no_more():
    """Three of three; `remaining` counts down; the reset is when the first of them leaves the window."""
    window = Windows(60.0)
    told = [window.take(THREE, 1_000.0) for _ in range(4)]

    assert [each.admitted for each in told] == [True, True, True, False]
    assert [each.remaining for each in told] == [2, 1, 0, 0]
    assert {each.reset_s for each in told} == {1_065.0}
    assert told[3].wait_s == 65.0


def test_what_was_counted_before_the_clock_stepped_back_still_counts():
    """From now on and for one window: neither forgotten nor held for as long as the step was."""
    window = Windows(60.0)
    for _ in range(3):
        window.take(THREE, 10_000.0)

    told = window.take(THREE, 1_000.0)

    assert not told.admitted and told.wait_s <= 65.0
    assert window.take(THREE, 1_000.0 + told.wait_s).admitted


def test_a_refused_request_is_not_counted():
    """Who keeps knocking gets in as soon as who waits does."""
    window = Windows(60.0)
    for _ in range(50):
        window.take(THREE, 1_000.0)

    assert window.take(THREE, 1_065.0).admitted


def test_room_comes_back_as_the_oldest_leave():
    """A window that moves, not one that is emptied at once."""
    window = Windows(60.0)
    for at_s in (1_000.0, 1_030.0, 1_050.0):
        assert window.take(THREE, at_s).admitted

    assert not window.take(THREE, 1_064.9).admitted
    assert window.take(THREE, 1_065.0).admitted
    assert not window.take(THREE, 1_065.0).admitted


@pytest.mark.parametrize("seed", range(5))
def test_no_span_of_a_window_ever_holds_more_than_the_limit(seed):
    """The promise itself, at random times; and nobody waits longer than a window and a slot."""
    draw, window, now_s, admitted = random.Random(seed), Windows(6.0), 1_000.0, []
    for _ in range(2_000):
        now_s += draw.expovariate(3.0)
        if window.take([Quota("ann", 7)], now_s).admitted:
            admitted.append(now_s)

    spans = [late - early for early, late in zip(admitted, admitted[7:])]
    assert min(spans) >= 6.0
    assert min(spans) <= 6.0 * (1 + 1 / SLOTS) + 1.0


def test_one_full_quota_refuses_and_counts_in_none():
    """All or nothing: the other counters do not pay for a request that is not admitted."""
    window = Windows(60.0)
    window.take([Quota("all", 1)], 1_000.0)

    refused = window.take([Quota("home", 10), Quota("all", 1)], 1_000.0)
    alone = window.take([Quota("home", 10)], 1_000.0)

    assert (refused.admitted, refused.limit) == (False, 1)
    assert alone.remaining == 9


def test_a_limit_of_none_admits_nobody():
    """As the share of a limit below the number of gateways."""
    assert not Windows(60.0).take([Quota("ann", 0)], 1_000.0).admitted


def test_what_others_admitted_counts_whatever_the_limit():
    """And it leaves the window like everything else."""
    window = Windows(60.0)
    window.add({"ann": 5}, 1_000.0)

    assert not window.take(THREE, 1_001.0).admitted
    assert window.take(THREE, 1_065.0).admitted


def test_too_many_keys_make_room_by_the_oldest(monkeypatch):
    """A flood of callers does not fill the memory, and live counters of the newest stay."""
    monkeypatch.setattr(rate_window, "MAX_KEYS", 10)
    window = Windows(60.0)
    for number in range(25):
        window.take([Quota(f"user {number}", 1)], 1_000.0)

    assert not window.take([Quota("user 24", 1)], 1_000.0).admitted
    assert len(window._counts_by_key) <= 11
