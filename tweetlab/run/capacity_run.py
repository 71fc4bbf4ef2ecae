"""`run --find-capacity`: bisection over real runs at one steady rate each, by the procedure of `tweetlab.load.capacity`."""

from __future__ import annotations

import asyncio
import dataclasses

import numpy as np

from scenarios import spec
from tweetlab import home
from tweetlab.lab.session import Session
from tweetlab.load import capacity
from tweetlab.run import runner
from tweetlab.terminal import Screen

TRIAL_S = 60.0


async def find(lab: Session, scenario: spec.Scenario) -> capacity.Capacity:
    """Return the highest rate that holds in 3 of 3 repeats. Starts from the scenario's own peak rate.

    Cassandra compiles its hot code for its first half minute under load (a post takes 0.2 s then, 20 ms later, on two
    cores), so one run goes before those that count.
    """

    async def trial(rate_per_s: float) -> capacity.TrialResult:
        at = scenario.at_rate(rate_per_s, TRIAL_S + scenario.measure.warm_up_s)
        told = await runner.run(lab, at, f"trial at {rate_per_s:.1f}/s", world=_one_page_each(at), check=False)
        run = runner.finished(told, lab.lab, home.RUNS / "capacity")
        return capacity.trial_of(run.document, rate_per_s)

    def heard(result: capacity.TrialResult) -> None:
        lab.screen.say(f"{result.rate_per_s:8.1f}/s  {'carried' if result.carried else 'not carried: ' + result.broken}")

    with lab.screen.step("a first run that counts for nothing: it warms the JVMs"):
        await trial(scenario.workload.peak_per_s)
    return await capacity.find(trial, scenario.workload.peak_per_s, told=heard)


def _one_page_each(scenario: spec.Scenario) -> runner.World:
    """Nobody asks for a second page, so the planned rate is the rate of requests."""
    world = runner.world_of(scenario)
    tape = dataclasses.replace(world.tape, second_page=np.zeros(len(world.tape), bool))
    return dataclasses.replace(world, tape=tape)


def command(scenario: spec.Scenario, screen: Screen) -> int:
    """Search, print, and return 0 where some rate is carried, 1 where none is."""
    from tweetlab.lab import session

    async def go() -> capacity.Capacity:
        async with session.opened(screen, scenario.platform, scenario.policies, resets=True) as lab:
            return await find(lab, scenario)

    found = asyncio.run(go())
    screen.show(found.explain())
    screen.emit({"capacity_per_s": found.rate_per_s, "refused_per_s": found.refused_per_s,
                 "trials": [{"rate_per_s": t.rate_per_s, "carried": t.carried, "broken": t.broken} for t in found.trials]})
    return 0 if found.rate_per_s else 1
