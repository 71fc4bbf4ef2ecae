"""`make demo` end to end: lab, 90 s to calibrate the twin, the scored run with its fault, prediction, report.

The calibration comes from a separate run before the scored one, so the prediction is independent of what it
predicts.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from reports import record
from scenarios import loader
from sim import calibration
from system.kernel.errors import LabError
from tweetlab.calibrate import experiment, fingerprint, store
from tweetlab.lab import session
from tweetlab.run import run_request, runner
from tweetlab.run.inputs import draw
from tweetlab.terminal import Screen

SCENARIO = "first_run"


async def _calibration(lab: session.Session, screen: Screen) -> calibration.Calibration:
    """Return the full calibration of this machine if there is one, else make a quick one.

    A quick one that is refused ends nothing: the twin then predicts with the calibration it would have refined.
    """
    chosen = store.choose("", fingerprint.here())
    if chosen.path == store.full_path(fingerprint.here()) and not chosen.foreign:
        screen.say(f"calibration: {chosen.calibration.label}, made on this machine")
        return chosen.calibration
    prior = calibration.default()
    try:
        with screen.step("measuring this machine for the twin (a minute and a half)"):
            result = await experiment.quick(lab, screen, prior)
    except LabError as problem:
        return _not_here(prior, (problem.detail,), screen)
    if result.refused:
        return _not_here(prior, result.refused, screen)
    store.keep(result.calibration, store.quick_path())
    return result.calibration


def _not_here(shipped: calibration.Calibration, reasons: Sequence[str], screen: Screen) -> calibration.Calibration:
    screen.warn(f"the twin is {store.NOT_HERE}; it predicts with that of {store.described(shipped)}:")
    for reason in reasons[:3]:
        screen.warn(f"  {reason}")
    return dataclasses.replace(shipped, label=f"{shipped.label} of {store.described(shipped)}, {store.NOT_HERE}: {reasons[0]}")


async def walk(screen: Screen, observe: bool = False) -> record.Run:
    """Return the scored run with the twin's prediction. Stops what it started, whatever happens."""
    scenario = loader.load(SCENARIO)
    inputs = draw(scenario)
    stop = asyncio.Event()
    async with session.opened(screen, scenario.platform, scenario.policies, observe=observe,
                              resets=True) as lab:
        calibrated = await _calibration(lab, screen)
        screen.say(f"scenario {scenario.name}: {scenario.question}")
        with run_request.interruptible(stop, screen):
            result = await runner.run(lab, scenario, "make demo", inputs=inputs, stop=stop)
        run = runner.finished(result, lab.lab)
    return run_request.predict(run, scenario, inputs, calibrated, screen)
