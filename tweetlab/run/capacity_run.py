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
from tweetlab.run.inputs import Inputs, draw
from tweetlab.terminal import Screen

TRIAL_S = 60.0


async def find(lab: Session, scenario: spec.Scenario) -> capacity.Capacity:
    """Return the highest rate that is sustained in 3 of 3 repeats. Starts from the scenario's own peak rate.

    During the first half minute under load, Cassandra's JIT compiles its hot code: on two cores, a post takes
    0.2 s then and 20 ms afterwards. So one warm-up run precedes those that count.
    """

    async def trial(rate_per_s: float) -> capacity.TrialResult:
        at = scenario.at_rate(rate_per_s, TRIAL_S + scenario.measure.warm_up_s)
        result = await runner.run(lab, at, f"trial at {rate_per_s:.1f}/s", inputs=_first_pages_only(at), check=False)
        run = runner.finished(result, lab.lab, home.RUNS / "capacity")
        return capacity.trial_of(run.document, rate_per_s)

    def show(result: capacity.TrialResult) -> None:
        lab.screen.say(f"{result.rate_per_s:8.1f}/s  {'carried' if result.carried else 'not carried: ' + result.broken}")

    with lab.screen.step("warm-up run for the JVMs; it does not count"):
        await trial(scenario.workload.peak_per_s)
    return await capacity.find(trial, scenario.workload.peak_per_s, on_trial=show)


def _first_pages_only(scenario: spec.Scenario) -> Inputs:
    """Draw the inputs without second pages, so that the planned rate is the rate of requests."""
    inputs = draw(scenario)
    tape = dataclasses.replace(inputs.tape, second_page=np.zeros(len(inputs.tape), bool))
    return dataclasses.replace(inputs, tape=tape)


def command(scenario: spec.Scenario, screen: Screen) -> int:
    """Search, print, and return 0 if some rate is sustained, 1 if none is."""
    from tweetlab.lab import session

    async def go() -> capacity.Capacity:
        async with session.opened(screen, scenario.platform, scenario.policies, resets=True) as lab:
            return await find(lab, scenario)

    result = asyncio.run(go())
    screen.show(result.explain())
    screen.emit({"capacity_per_s": result.rate_per_s, "refused_per_s": result.refused_per_s,
                 "trials": [{"rate_per_s": t.rate_per_s, "carried": t.carried, "broken": t.broken} for t in result.trials]})
    return 0 if result.rate_per_s else 1
