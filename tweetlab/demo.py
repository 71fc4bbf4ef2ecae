"""`make demo` in one walk: lab, population, 20 s of low load to calibrate, the scored run with its fault, twin, report.

The calibration comes from a run of its own before the scored one, so the prediction owes nothing to what it predicts.
"""

from __future__ import annotations

import asyncio

from reports import record
from scenarios import loader
from tweetlab.lab import session
from tweetlab.run import run_request, runner
from tweetlab.terminal import Screen

SCENARIO = "first_run"


async def walk(screen: Screen, observe: bool = False) -> record.Run:
    """Return the scored run, with the twin's answer beside it. Stops what it started, whatever happens."""
    scenario = loader.load(SCENARIO)
    world = runner.world_of(scenario)
    stop = asyncio.Event()
    async with session.opened(screen, scenario.platform, scenario.policies, observe=observe,
                              resets=True) as lab:
        with screen.step("low-load run for the twin's calibration"):
            calibration = await run_request.quick_calibration(lab, screen, scenario.population, scenario.seed)
        screen.say(f"scenario {scenario.name}: {scenario.question}")
        with run_request.interruptible(stop, screen):
            told = await runner.run(lab, scenario, "make demo", world=world, stop=stop)
        run = runner.finished(told, lab.lab)
    return run_request.predict(run, scenario, world, calibration, screen)
