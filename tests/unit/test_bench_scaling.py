"""When a doubled load counts as carried."""

from __future__ import annotations

import math

import numpy as np

from tweetlab.bench import scale_rows


def run_of(bad_from_s: float, bad_to_s: float) -> tuple[np.ndarray, np.ndarray]:
    """90 s at 100/s, 20 ms each; 900 ms between two moments after the step."""
    due_s = np.arange(0.0, 90.0, 0.01)
    bad = (due_s >= 30.0 + bad_from_s) & (due_s < 30.0 + bad_to_s)
    return due_s, np.where(bad, 900.0, 20.0)


def test_recovery_counts_from_the_step_to_the_first_lasting_calm():
    """Bad until 7 s after the step: back after 7 s, to the half second of the windows."""
    assert 6.5 <= scale_rows.recovered_s(*run_of(0.5, 7.0), 30.0) <= 7.0


def test_a_short_calm_between_two_bad_times_does_not_count():
    """Bad in the first second and again from 8 to 12 s: the 7 s between are shorter than 10."""
    due_s, took_ms = run_of(0.0, 1.0)
    took_ms[(due_s >= 38.0) & (due_s < 42.0)] = 900.0

    assert 11.5 <= scale_rows.recovered_s(due_s, took_ms, 30.0) <= 12.0


def test_a_load_that_is_never_carried_has_no_time():
    """NaN is inside no bar."""
    assert math.isnan(scale_rows.recovered_s(*run_of(0.0, 60.0), 30.0))


def test_a_load_that_hurts_nobody_is_carried_at_once():
    """0 s."""
    assert scale_rows.recovered_s(*run_of(0.0, 0.0), 30.0) == 0.0
