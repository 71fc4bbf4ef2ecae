"""When a system has recovered from a doubled load."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from bench import scale_rows
from system.kernel.errors import CouldNotRun


def run_of(bad_from_s: float, bad_to_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return 90 s at 100/s with 20 ms each, and 900 ms between two times after the step."""
    due_s = np.arange(0.0, 90.0, 0.01)
    bad = (due_s >= 30.0 + bad_from_s) & (due_s < 30.0 + bad_to_s)
    return due_s, np.where(bad, 900.0, 20.0)


def test_recovery_is_the_time_from_the_step_to_the_first_lasting_good_period():
    """Bad until 7 s after the step: recovered after 7 s, within the half second of the windows."""
    assert 6.5 <= scale_rows.recovered_s(*run_of(0.5, 7.0), 30.0) <= 7.0


def test_a_short_good_period_between_two_bad_ones_does_not_count():
    """Bad in the first second and again from 8 to 12 s: the 7 s between are shorter than 10."""
    due_s, took_ms = run_of(0.0, 1.0)
    took_ms[(due_s >= 38.0) & (due_s < 42.0)] = 900.0

    assert 11.5 <= scale_rows.recovered_s(due_s, took_ms, 30.0) <= 12.0


def test_a_run_that_never_recovers_has_no_time():
    """NaN is within no bar."""
    assert math.isnan(scale_rows.recovered_s(*run_of(0.0, 60.0), 30.0))


def counts(before: float, after: float, cores: float = 0.12) -> pd.DataFrame:
    """Return samples of one service's instances for 90 s, and of the CPU of the first one."""
    seconds = np.arange(90.0)
    return pd.concat([
        pd.DataFrame({"t_s": seconds, "name": "instances", "node": "gateway", "value": np.where(seconds <= 35.0, before, after)}),
        pd.DataFrame({"t_s": seconds, "name": "cpu_cores", "node": "gateway-1", "value": cores}),
        pd.DataFrame({"t_s": seconds, "name": "cpu_cores", "node": "kafka-1", "value": 0.9}),  # is not an instance
    ])


QUICK, SLOW = np.full(500, 20.0), np.full(500, 900.0)


@pytest.mark.parametrize(("before_ms", "series", "steal", "message"), [
    (SLOW, counts(1, 2), 0.0, "before the load doubled"),
    (np.array([]), counts(1, 2), 0.0, "before the load doubled"),
    (QUICK, counts(1, 2), 0.2, "taken away"),
    (QUICK, counts(1, 1), 0.0, "No instance joined"),
    (QUICK, counts(2, 1), 0.0, "No instance joined"),
    (QUICK, None, 0.0, "No instance joined"),
    (QUICK, counts(1, 2, 0.09), 0.0, "90% of the instances that existed before"),
], ids=["slow before", "nothing before", "steal", "none joined", "fewer", "no samples", "joined without need"])
def test_an_inconclusive_run_gives_no_value(before_ms, series, steal, message):
    """0 s to recovery would be the best value, so it must not come from a load that one instance sustains."""
    with pytest.raises(CouldNotRun, match=message):
        scale_rows.check_shows(before_ms, series, steal, 0.2)


def test_a_run_in_which_an_instance_joined_counts():
    """It raises nothing."""
    assert scale_rows.check_shows(QUICK, counts(1, 2), 0.0, 0.2) is None
