"""Cores whose speed changes: how that is measured, and what it does to responses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simpy

from sim import speed
from sim.resources import Host, Process, Wait
from sim.stations import Pace
from sim.streams import NS, Stream, exponential, ns
from tweetlab.run import speed_probe

pytestmark = pytest.mark.timeout(60)


def draws(seed: int) -> Iterator[float]:
    """Exponential draws of mean 1."""
    return Stream(seed, "draws", exponential(1.0))


def factor(pace: Pace, now_s: float) -> float:
    """Return what a second of CPU takes at `now_s`."""
    return pace.factor(ns(now_s)) / Pace.UNIT


def test_a_core_takes_a_second_per_second_on_average() -> None:
    """1.6 times as slow for 0.4 of the time: the two factors are 1 / 1.24 and 1.6 / 1.24."""
    pace = Pace(1.6, 0.4, 5.0, draws(1))

    found = np.asarray([factor(pace, 0.01 * step) for step in range(200_000)])

    assert found.mean() == pytest.approx(1.0, abs=0.01)
    assert set(np.round(found, 5)) == {round(1 / 1.24, 5), round(1.6 / 1.24, 5)}
    assert (found > 1.0).mean() == pytest.approx(0.4, abs=0.03)


def test_the_two_speeds_are_found_again() -> None:
    """From noisy CPU times of one piece of work on two cores."""
    random, at_s = np.random.default_rng(5), np.arange(0.0, 400.0, 0.05)
    took = []
    for core in range(2):
        pace = Pace(1.6, 0.4, 5.0, draws(10 + core))
        took.append(np.asarray([factor(pace, at) for at in at_s]) * random.lognormal(0.0, 0.04, len(at_s)))

    found = speed.core_speed(took, [at_s, at_s])

    assert found.slow == pytest.approx(1.6**speed.MOMENTARY, rel=0.03)
    assert found.share == pytest.approx(0.4, abs=0.04)
    assert found.changes_per_s == pytest.approx(5.0, rel=0.3)


def test_a_core_of_ones_own_has_one_speed() -> None:
    """Noise of some per cent is not a second speed."""
    random, at_s = np.random.default_rng(5), np.arange(0.0, 60.0, 0.05)
    assert speed.core_speed([random.lognormal(0.0, 0.03, len(at_s))], [at_s]).constant
    assert speed.core_speed([], []).constant


def test_tails_grow_where_the_speed_changes() -> None:
    """At 0.8 of two cores, with the same mean speed and the same work: p95 is more than a third higher."""

    def p95(paces: list[Pace]) -> float:
        env, random = simpy.Environment(initial_time=0), np.random.default_rng(3)
        source = Process(env, Host(env, 2, paces=paces), "source", 0)
        took: list[float] = []

        def task() -> Wait:
            start_ns = env.now
            yield source.work(float(random.exponential(0.002)))
            took.append((env.now - start_ns) / NS)

        def arrivals() -> Wait:
            while True:
                env.process(task())
                yield env.timeout(ns(float(random.exponential(0.002 / 1.6))))

        env.process(arrivals())
        env.run(ns(60.0))
        return float(np.quantile(took, 0.95))

    constant, changing = p95([]), p95([Pace(1.5, 0.5, 5.0, draws(core)) for core in (1, 2)])
    assert changing > 1.33 * constant


def test_slowness_follows_the_probe_where_costs_could_explain_it_too() -> None:
    """The second half has more load and a slower machine. Without the probe half of it is taken for dearer work."""
    expected = {"gateway-1": np.repeat([0.1, 0.3], 10)}
    measured = {"gateway-1": expected["gateway-1"] * np.repeat([1.0, 1.2], 10)}
    steady = np.full(20, 600.0)

    quiet = speed.slowness(measured, expected, steady)
    slowed = speed.slowness(measured, expected, steady * np.repeat([1.0, 1.2 ** (1 / speed.SENSITIVITY)], 10))

    assert quiet[-1] / quiet[0] < 1.1
    assert slowed[-1] / slowed[0] == pytest.approx(1.2, rel=0.02)


def test_a_run_is_predicted_for_the_speed_that_its_machine_had() -> None:
    """A probe that takes a fifth more than when calibrated makes all CPU 1.2^0.9 = 1.178 times as dear."""
    starts_s = np.arange(0.0, 60.0, 5.0)
    machine = speed.during(starts_s, starts_s + 5.0, np.full(12, 720.0), 600.0, speed.CoreSpeed())

    assert machine.mean == pytest.approx(1.178, abs=0.001)
    assert machine.slowness(30.0) == pytest.approx(1.178, abs=0.001) and machine.slowness(500.0) == 1.0


async def test_the_probe_measures_every_core_and_ends(tmp_path: Path) -> None:
    """Its counters grow, each piece of work takes CPU, and it is gone after `stop`."""
    probe = speed_probe.Probe(tmp_path / "probe")
    try:
        async with asyncio.timeout(20):
            while len(probe.rows()) < 12:
                await asyncio.sleep(0.1)
        counted, rows = await probe.counters(), probe.rows()
    finally:
        probe.stop()

    assert counted["probes"] >= 12 and counted["probe_us"] / counted["probes"] > 100.0
    assert len(set(rows[:, 1].tolist())) >= 1 and (rows[:, 2] > 0).all() and (np.diff(rows[:, 0]) > 0).all()
    assert not Path(f"/proc/{probe.pid}").exists()
