"""`make demo` end to end: lab, 90 s to calibrate the twin, the scored run with its fault, prediction, report.

The calibration comes from a separate run before the scored one, so the prediction is independent of what it
predicts.
"""

from __future__ import annotations

import asyncio
import dataclasses

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
    """Return a quick calibration: of this machine's full one if there is one, else of the shipped one.

    Quick even after a full one, because the JVMs of this lab have just started and take up to three times the CPU of
    those that `tweetlab calibrate` warms. A quick one that is refused ends nothing: the twin then predicts with the
    calibration it would have refined.
    """
    here = fingerprint.here()
    chosen = store.choose("", here)
    full = chosen.path == store.full_path(here)
    prior = chosen.calibration if full else calibration.default()
    try:
        with screen.step("measuring this machine for the twin (a minute and a half)"):
            result = await experiment.quick(lab, screen, prior)
        refused = result.refused
    except LabError as problem:
        refused = (problem.detail,)
    if not refused:
        store.keep(result.calibration, store.quick_path())
        return result.calibration
    label = prior.label if full else store.foreign_label(prior)
    screen.warn(f"the quick calibration is refused; the twin predicts with the {label}:")
    for reason in refused[:3]:
        screen.warn(f"  {reason}")
    return prior if full else dataclasses.replace(prior, label=f"{label}: {refused[0]}")


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
