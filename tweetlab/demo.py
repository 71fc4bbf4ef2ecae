"""`make demo` end to end: lab, population, 20 s of low load to calibrate, the scored run with its fault, twin, report.

The calibration comes from a separate run before the scored one, so the prediction is independent of what it
predicts.
"""

from __future__ import annotations

import asyncio

from reports import record
from scenarios import loader
from tweetlab.lab import session
from tweetlab.run import measure, run_request, runner
from tweetlab.terminal import Screen

SCENARIO = "first_run"


async def walk(screen: Screen, observe: bool = False) -> record.Run:
    """Return the scored run with the twin's prediction. Stops what it started, whatever happens."""
    scenario = loader.load(SCENARIO)
    inputs = measure.draw(scenario)
    stop = asyncio.Event()
    async with session.opened(screen, scenario.platform, scenario.policies, observe=observe,
                              resets=True) as lab:
        with screen.step("low-load run for the twin's calibration"):
            calibration = await run_request.quick_calibration(lab, screen, scenario.population, scenario.seed)
        screen.say(f"scenario {scenario.name}: {scenario.question}")
        with run_request.interruptible(stop, screen):
            result = await runner.run(lab, scenario, "make demo", inputs=inputs, stop=stop)
        run = runner.finished(result, lab.lab)
    return run_request.predict(run, scenario, inputs, calibration, screen)
