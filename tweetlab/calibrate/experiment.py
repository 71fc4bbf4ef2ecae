"""Runs the calibration experiments on a lab and fits the twin to them.

    full   warm the JVMs -> idle, ladders, one route at a time, cache losses
           -> longer lists, pulled authors -> fit -> gate                                        at most 15 minutes
    quick  the same in 90 s: warm-up, idle, three rungs, a cache loss -> one factor per process -> gate

A calibration that does not reproduce its own run within the gate's bars is refused. A full one that was interrupted
after a run of its experiment resumes with what is left.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports import accounts, record
from scenarios import loader, spec
from sim import calibrate, gate
from sim.calibration import Calibration
from system.kernel.errors import CouldNotRun
from tweetlab import home
from tweetlab.calibrate import fingerprint, store
from tweetlab.lab.session import Session
from tweetlab.run import runner
from tweetlab.terminal import Screen

WARM, FULL, LISTS, QUICK = "calibrate_warm", "calibrate_full", "calibrate_lists", "calibrate_quick"
JVMS = ("cassandra-1", "elasticsearch-1", "kafka-1")
DRIFT = 0.03  # of the JVMs' CPU against that of all other processes, between two parts of the anchor
PARTS = 3  # of the anchor
ANCHOR_UTILIZATION = 0.68  # of the machine at the anchor's rate where the highest rungs of the ladders use three quarters
FACTORS = (0.6, 1.8)  # on the rates: least, most
WARM_WITHIN_S = 400.0  # three runs of the anchor
RESUME_WITHIN_S = 3600.0
FIT_S = 40.0  # of the fit and the gate, on the development machine
RESET_S = 25.0  # reset, warm-up of the caches and drain of one run


class Refused(CouldNotRun):
    """A calibration that may not be used. `detail` states what failed and what to do."""


@dataclass(frozen=True)
class Result:
    """A calibration with the rungs of its gate; `refused`: what it failed, empty if it may be used."""

    calibration: Calibration
    rungs: tuple[gate.Rung, ...]
    refused: tuple[str, ...]


async def full(lab: Session, screen: Screen) -> Result:
    """Return the full calibration of this machine. Raises Refused where it cannot be measured or fails its gate."""
    here = fingerprint.here()
    runs = _finished_before(here, screen)
    wanted = [loader.load(name) for name in (FULL, LISTS)]
    left_s = sum(scenario.workload.load_s + RESET_S for scenario in wanted[len(runs):]) + FIT_S
    if not runs:
        factor = rate_factor(await warm(lab, screen, left_s))
        wanted[0] = at_rates(wanted[0], factor)
        screen.say(f"rates of {FULL} for this machine: times {factor:.2f}")
    for scenario in wanted[len(runs):]:
        screen.say(f"{scenario.name}, {scenario.workload.load_s / 60:.1f} min of load; about {left_s / 60:.0f} min left in all")
        runs.append(await _run(lab, scenario, "tweetlab calibrate"))
        _note(here, runs)
        left_s -= scenario.workload.load_s + RESET_S
    run, lists = runs
    with screen.step("fitting every cost and delay (about a minute)"):
        made = calibrate.full(run, lists)
        result = _judged(gate.with_slice(calibrate.replay(run, made.cores), made), run, here)
    _note(here, [])
    if result.refused:
        raise Refused(
            "The calibration does not reproduce its own run and was not kept. "
            + " ".join(f"{one}." for one in result.refused[:5])
            + f" The run is {run.path}. To fix: stop other programs on this machine and repeat `tweetlab calibrate`."
        )
    return result


async def quick(lab: Session, screen: Screen, prior: Calibration) -> Result:
    """Return the quick calibration: `prior` fitted to a run of 70 s. Raises WrongInput if other programs ran."""
    here = fingerprint.here()
    run = await _run(lab, loader.load(QUICK), f"tweetlab run {QUICK}")
    with screen.step("fitting one factor per process"):
        return _judged(calibrate.quick(run, prior), run, here)


def _judged(made: Calibration, run: record.Run, here: dict[str, Any]) -> Result:
    rungs = gate.replayed(calibrate.replay(run, made.cores), made)
    diagnostics = {**made.diagnostics, "rungs": gate.table(rungs)}
    return Result(
        dataclasses.replace(made, fingerprint=here, diagnostics=diagnostics), tuple(rungs), tuple(gate.judge(rungs))
    )


async def _run(lab: Session, scenario: spec.Scenario, command: str) -> record.Run:
    """Run a scenario without probes and final reads. Raises Refused where the run is void."""
    run = runner.finished(await runner.run(lab, scenario, command, check=False), lab.lab)
    if run.document["validity"]["verdict"] == "VOID":
        broken = [
            one["fix"] for one in run.document["validity"]["criteria"] if one["kind"] == "void" and not one["holds"]
        ]
        raise Refused(f"The run {run.run_id} is void: {'; '.join(broken) or 'see its report'}. Repeat the command.")
    return run


# ---- warm JVMs -------------------------------------------------------------------------------------------


async def warm(lab: Session, screen: Screen, after_s: float) -> record.Run:
    """Run the anchor until the JVMs' share of the CPU stops falling; return its last run. Raises Refused if it does not.

    `after_s`: what follows, for the remaining time that is shown.
    """
    scenario, began = loader.load(WARM), time.monotonic()
    while True:
        left_s = scenario.workload.load_s + RESET_S + after_s
        screen.say(f"warming the JVMs for {scenario.workload.load_s:.0f} s; about {left_s / 60:.0f} min left in all")
        run = await _run(lab, scenario, "tweetlab calibrate")
        drift = jvm_drift(run)
        if abs(drift) <= DRIFT:
            screen.say(f"the JVMs are warm: their CPU changed by {drift:+.1%}")
            return run
        if time.monotonic() - began + scenario.workload.load_s + RESET_S > WARM_WITHIN_S:
            if drift > -3 * DRIFT:  # it no longer falls fast: what remains is in the gate's noise
                screen.warn(f"the CPU of the JVMs still changed by {drift:+.1%} after {WARM_WITHIN_S:.0f} s")
                return run
            raise Refused(
                f"The CPU of the JVMs still changed by {drift:+.1%} after {WARM_WITHIN_S:.0f} s; at most {DRIFT:.0%} is "
                "allowed. To fix: stop other programs on this machine and repeat `tweetlab calibrate`."
            )
        screen.say(f"not yet warm: their CPU changed by {drift:+.1%}")


def _last_stage(run: record.Run) -> tuple[accounts.Accounts, NDArray[np.bool_]]:
    """Return the accounts of a run, and which of their windows are closed ones of its last stage."""
    stages = accounts.stages_of(run.document)
    found = accounts.of_run(run.series, stages)
    return found, (found.stage == len(stages) - 1) & found.closed


def rate_factor(anchor: record.Run) -> float:
    """Return by how much the rates of the ladders are raised on a machine that is faster, or lowered on a slower one, than that
    on which their highest rungs use three quarters.
    """
    found, inside = _last_stage(anchor)
    if not inside.any():
        return 1.0
    utilization = float(found.busy_cores[inside].mean()) / float(anchor.document["host"]["cores"])
    return float(np.clip(ANCHOR_UTILIZATION / utilization, *FACTORS))


def at_rates(scenario: spec.Scenario, factor: float) -> spec.Scenario:
    """Return a scenario with all rates times `factor`, those of idle stages unchanged."""
    def scaled(rate: float) -> float:
        return rate if rate < calibrate.IDLE_BELOW else float(round(rate * factor))

    stages = [dataclasses.replace(stage, rate_from=scaled(stage.rate_from), rate_to=scaled(stage.rate_to))
              for stage in scenario.workload.stages]
    return dataclasses.replace(scenario, workload=dataclasses.replace(scenario.workload, stages=tuple(stages)))


def jvm_drift(run: record.Run) -> float:
    """Return how much the CPU of the JVMs, relative to all other processes, changed between the last two parts of a run's
    last stage. Relative, because the speed of a virtual machine changes for all of them alike.
    """
    found, inside = _last_stage(run)
    jvms = np.sum([found.cores[name][inside] for name in JVMS], axis=0)
    others = np.sum([cores[inside] for name, cores in found.cores.items() if name not in JVMS], axis=0)
    parts = (
        [float(part.sum()) for part in np.array_split(jvms, PARTS)],
        [float(part.sum()) for part in np.array_split(others, PARTS)],
    )
    ratios = [a / b if b else 0.0 for a, b in zip(*parts, strict=True)]
    return ratios[-1] / ratios[-2] - 1.0 if ratios[-2] else 1.0


# ---- resuming --------------------------------------------------------------------------------------------


def _state() -> Path:
    return home.ROOT / ".tweetlab" / "calibrate.json"


def _note(here: dict[str, Any], runs: list[record.Run]) -> None:
    """Note the finished runs of an experiment that is not fitted yet; with none nothing is left to resume."""
    if not runs:
        _state().unlink(missing_ok=True)
        return
    _state().parent.mkdir(exist_ok=True)
    _state().write_text(json.dumps({"fingerprint": here, "runs": [str(run.path) for run in runs], "at": time.time()}))


def _finished_before(here: dict[str, Any], screen: Screen) -> list[record.Run]:
    """Return the runs of an interrupted calibration of this machine; none if there was none."""
    from sim import fingerprint as fingerprints

    try:
        known = json.loads(_state().read_text())
        if time.time() - float(known["at"]) > RESUME_WITHIN_S or fingerprints.differences(known["fingerprint"], here):
            return []
        runs = [record.read(Path(path)) for path in known["runs"]]
    except (OSError, ValueError, KeyError, CouldNotRun):
        return []
    screen.say(f"resuming an interrupted calibration with {', '.join(run.run_id for run in runs)}")
    return runs


def kept(result: Result) -> Path:
    """Keep a full calibration for this machine; return its path."""
    return store.keep(result.calibration, store.full_path(dict(result.calibration.fingerprint)))
