"""Capacity is found by bisection to 3 %, and only a rate that is carried three times counts."""

import asyncio
import random

import pytest

from system.kernel.errors import CouldNotRun
from tweetlab.load import capacity


def queueing(capacity_per_s, noise=0.0, seed=1, void=()):
    """A server whose response explodes at `capacity_per_s`; `noise` moves the edge from run to run."""
    draw, seen = random.Random(seed), []

    async def trial(rate):
        seen.append(rate)
        edge = capacity_per_s * (1 + draw.uniform(-noise, noise))
        why = "start lag p99 9 ms" if len(seen) in void else ""
        utilisation = rate / edge
        return capacity.TrialResult(rate, min(1.0, 1 / utilisation), 0.0, utilisation > 1, utilisation <= 0.97, why)

    return trial, seen


@pytest.mark.parametrize("true_per_s", [37.0, 410.0, 9_000.0])
@pytest.mark.parametrize("start_per_s", [100.0, 2_000.0])
def test_the_edge_is_met_within_three_percent_from_either_side(true_per_s, start_per_s):
    """The objective holds up to 97 % of the server's rate."""
    trial, _ = queueing(true_per_s)

    found = asyncio.run(capacity.find(trial, start_per_s))

    assert 0.97 * true_per_s / 1.03 <= found.rate_per_s <= 0.97 * true_per_s
    assert found.refused_per_s <= found.rate_per_s * 1.03
    assert "an objective was missed" in found.explain()


def test_the_answer_was_carried_three_times_in_a_row():
    """3 of 3 repeats."""
    trial, seen = queueing(500)

    found = asyncio.run(capacity.find(trial, 100))

    assert seen.count(found.rate_per_s) == 3


def test_a_noisy_edge_gives_a_rate_below_which_every_repeat_held():
    """A rate that fails one repeat is given up for a lower one."""
    for seed in range(8):
        trial, _ = queueing(500, noise=0.06, seed=seed)
        found = asyncio.run(capacity.find(trial, 100))
        held = [one.carried for one in found.trials if one.rate_per_s == found.rate_per_s]

        assert held[-3:] == [True, True, True]
        assert 400 <= found.rate_per_s <= 520


def test_where_nothing_is_carried_the_capacity_is_zero():
    """A server that is always too slow has no capacity, and the search ends."""
    trial, _ = queueing(0.1)

    assert asyncio.run(capacity.find(trial, 100)).rate_per_s == 0


def test_where_everything_is_carried_the_upper_end_is_the_answer():
    """Nothing was refused, and the answer says so."""
    trial, _ = queueing(1e9)
    found = asyncio.run(capacity.find(trial, 100, most_per_s=1_000))

    assert (found.rate_per_s, found.refused_per_s) == (1_000, None)
    assert "no rate was refused" in found.explain()


def test_a_void_run_is_tried_again_and_decides_nothing():
    """A late generator says nothing about the system."""
    trial, _ = queueing(500, void=(1, 4))
    calm, _ = queueing(500)

    assert asyncio.run(capacity.find(trial, 100)).rate_per_s == asyncio.run(capacity.find(calm, 100)).rate_per_s


def test_runs_that_stay_void_end_the_search_with_the_reason():
    """Three void runs of one rate are an error, not an answer."""
    trial, _ = queueing(500, void=(1, 2, 3))

    with pytest.raises(CouldNotRun, match="3 runs at 100/s were void \\(start lag p99 9 ms\\)"):
        asyncio.run(capacity.find(trial, 100))


def test_a_trial_is_read_from_the_record_of_its_run():
    """Goodput and errors of the steady part, growth and void by the run's own judgement."""
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
