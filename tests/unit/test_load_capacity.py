"""Capacity is found by bisection to 3 %, and only a rate that is sustained three times counts."""

import asyncio
import random

import pytest

from system.kernel.errors import CouldNotRun
from tweetlab.load import capacity


def queueing(capacity_per_s, noise=0.0, seed=1, void=()):
    """Return a fake server that saturates at `capacity_per_s` (`noise` varies it per run), and the rates that were tried."""
    draw, tried = random.Random(seed), []

    async def trial(rate):
        tried.append(rate)
        edge = capacity_per_s * (1 + draw.uniform(-noise, noise))
        why = "start lag p99 9 ms" if len(tried) in void else ""
        utilization = rate / edge
        return capacity.TrialResult(rate, min(1.0, 1 / utilization), 0.0, utilization > 1, utilization <= 0.97, why)

    return trial, tried


@pytest.mark.parametrize("true_per_s", [37.0, 410.0, 9_000.0])
@pytest.mark.parametrize("start_per_s", [100.0, 2_000.0])
def test_capacity_is_found_within_three_percent_from_either_side(true_per_s, start_per_s):
    """The objective holds up to 97 % of the server's rate."""
    trial, _ = queueing(true_per_s)

    result = asyncio.run(capacity.find(trial, start_per_s))

    assert 0.97 * true_per_s / 1.03 <= result.rate_per_s <= 0.97 * true_per_s
    assert result.refused_per_s <= result.rate_per_s * 1.03
    assert "an objective was missed" in result.explain()


def test_the_result_was_sustained_three_times_in_a_row():
    """3 of 3 repeats."""
    trial, tried = queueing(500)

    result = asyncio.run(capacity.find(trial, 100))

    assert tried.count(result.rate_per_s) == 3


def test_a_noisy_server_gives_a_rate_that_every_repeat_sustained():
    """A rate that fails one repeat is replaced by a lower one."""
    for seed in range(8):
        trial, _ = queueing(500, noise=0.06, seed=seed)
        result = asyncio.run(capacity.find(trial, 100))
        held = [row.carried for row in result.trials if row.rate_per_s == result.rate_per_s]

        assert held[-3:] == [True, True, True]
        assert 400 <= result.rate_per_s <= 520


def test_without_a_sustainable_rate_the_capacity_is_zero():
    """A server that is always too slow has no capacity, and the search ends."""
    trial, _ = queueing(0.1)

    assert asyncio.run(capacity.find(trial, 100)).rate_per_s == 0


def test_if_every_rate_is_sustained_the_upper_bound_is_the_result():
    """No rate failed, and the text says so."""
    trial, _ = queueing(1e9)
    result = asyncio.run(capacity.find(trial, 100, most_per_s=1_000))

    assert (result.rate_per_s, result.refused_per_s) == (1_000, None)
    assert "no rate was refused" in result.explain()


def test_a_void_run_is_repeated_and_decides_nothing():
    """A late generator says nothing about the system."""
    trial, _ = queueing(500, void=(1, 4))
    calm, _ = queueing(500)

    assert asyncio.run(capacity.find(trial, 100)).rate_per_s == asyncio.run(capacity.find(calm, 100)).rate_per_s


def test_runs_that_stay_void_end_the_search_with_the_reason():
    """Three void runs at one rate are an error, not a result."""
    trial, _ = queueing(500, void=(1, 2, 3))

    with pytest.raises(CouldNotRun, match="3 runs at 100/s were void \\(start lag p99 9 ms\\)"):
        asyncio.run(capacity.find(trial, 100))


def test_a_trial_is_read_from_the_record_of_its_run():
    """Goodput and errors of the steady part, growth and void by the run's own verdict."""
    record = {"summary": {"totals": {"steady": {"planned": 1000, "ok": 985, "fail": 10, "info": 5}}},
              "validity": {"criteria": [
                  {"name": "growth of the queue over a stage", "kind": "overload", "holds": False, "value": 1, "bound": "0"},
                  {"name": "start lag p99", "kind": "void", "holds": True, "value": 1, "bound": "<= 3 ms"},
                  {"name": "CPU accounts close", "kind": "note", "holds": False, "value": 1, "bound": "3 %"}]},
              "objectives": [{"verdict": "PASS"}]}
    trial = capacity.trial_of(record, 100)

    assert trial == capacity.TrialResult(100, 0.985, 0.015, True, True, "")
    assert not trial.carried
    assert trial.broken == "goodput 98.5%, errors 1.50%, the queue grew"
