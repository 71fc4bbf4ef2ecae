"""`tweetlab validate`: predictions first, then the runs that test them, then the page.

Everything is appended to the ledger as it happens, so an interrupted validation resumes with its next run. A run in
which other programs used CPU is repeated once; if that happens again it does not count.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import accounts, record
from reports.page import validation as page
from sim.calibration import Calibration
from sim.validation import draw, judge, ledger, predict, rivals
from sim.validation.draw import Load
from system.kernel.errors import CouldNotRun, WrongInput
from tweetlab import home
from tweetlab.calibrate import experiment, fingerprint, store
from tweetlab.lab import session
from tweetlab.run import inputs as run_inputs
from tweetlab.run import runner
from tweetlab.terminal import Screen

FOLDER = home.GALLERY / "validation"
OVERHEAD_S = 32.0  # of one run: reset, warm caches, drain
TRIES = 2
KNOWN = (
    "The speed of the machine: on a virtual machine the CPU of the same work varies by a quarter within an hour, and near "
    "saturation every per cent of CPU is four per cent of latency. The speed probe knows it to within some per cent, and not "
    "what others do to the caches and the memory: once all services used a fifth more CPU while the probe was as fast as ever.",
    "The kernel's scheduler lets about half of the short tasks that wake preempt at once; the model's run queue makes all of "
    "them wait for a slice. The calibration chooses the slice that is right on the whole.",
    "Garbage collection of the JVMs is spread over their work; single pauses are not in the model. JVMs that have not yet "
    "compiled what is used take two to three times the CPU.",
    "After a cache loss repeats of one load differ by a factor of two in the mean of the 10 s after it.",
)


@dataclass(frozen=True)
class State:
    """What the ledger knows of one model. `predictions`: load -> entry. `runs`: load -> examined runs that count.
    `void`: runs that do not, with the reason.
    """

    predictions: dict[str, dict[str, Any]]
    runs: dict[str, list[dict[str, Any]]]
    void: list[dict[str, Any]]


def calibration_here(file: str = "") -> Calibration:
    """Return the calibration to validate. Raises WrongInput if it is not one of this machine."""
    chosen = store.choose(file, fingerprint.here())
    if chosen.foreign:
        raise WrongInput(
            f"The calibration {chosen.path.name} holds for another machine: {'; '.join(chosen.foreign[:3])}. A validation "
            "would test the difference of the machines. To fix: `tweetlab calibrate` (15 min), then repeat."
        )
    return chosen.calibration


async def validate(screen: Screen, *, quick: bool, keep: bool, folder: Path = FOLDER, file: str = "") -> dict[str, Any]:
    """Run what is left of the validation of this model; return its summary, which is also written to `folder`."""
    calibration = calibration_here(file)
    identity, book = draw.identity(calibration) + ("-quick" if quick else ""), ledger.Ledger(folder)
    with screen.step("drawing the loads"):
        loads = draw.plan(calibration, quick=quick, say=screen.say)
    _predict(loads, calibration, identity, book, quick, screen)
    left = _left(loads, state_of(book, identity))
    total_s = sum(load.scenario.workload.load_s + OVERHEAD_S for load, _ in left)
    screen.say(f"{len(left)} runs of {len(loads)} loads: about {total_s / 60:.0f} min")
    if left:
        async with session.opened(screen, "small", left[0][0].scenario.policies, keep=keep, resets=True) as lab:
            if not quick:
                await experiment.warm(lab, screen, total_s)
            for load, repeat in left:
                screen.say(f"{load.name}, run {repeat + 1} of {load.repeats}; about {total_s / 60:.0f} min left")
                await _examine(lab, load, repeat, calibration, identity, book, screen)
                total_s -= load.scenario.workload.load_s + OVERHEAD_S
    return conclude(calibration, identity, book, folder, screen)


def _predict(
    loads: list[Load], calibration: Calibration, identity: str, book: ledger.Ledger, quick: bool, screen: Screen
) -> None:
    known = {entry["load"]["name"] for entry in book.entries(identity) if entry["type"] == "prediction"}
    if not known:
        book.append(
            {
                "type": "begin",
                "identity": identity,
                "commit": home.commit(),
                "quick": quick,
                "label": calibration.label,
                "fingerprint": dict(calibration.fingerprint),
            }
        )
    for number, load in enumerate(loads):
        if load.name in known:
            continue
        screen.say(f"predicting {load.name} ({number + 1} of {len(loads)})")
        predicted = predict.of_load(load.scenario, calibration).as_json()
        book.append(
            {
                "type": "prediction",
                "identity": identity,
                "load": draw.as_json(load),
                "predicted": predicted,
                "sha256": ledger.sha256(predicted),
            }
        )


def state_of(book: ledger.Ledger, identity: str) -> State:
    """Return what the ledger knows of a model."""
    found = State({}, {}, [])
    for entry in book.entries(identity):
        if entry["type"] == "prediction":
            found.predictions[entry["load"]["name"]] = entry
        elif entry["type"] == "run" and entry.get("void"):
            found.void.append(entry)
        elif entry["type"] == "run":
            found.runs.setdefault(entry["load"], []).append(entry["examined"])
    return found


def _left(loads: list[Load], state: State) -> list[tuple[Load, int]]:
    """Return the runs that are left, repeats of one load spread over the validation."""
    gone = {name: len(runs) for name, runs in state.runs.items()}
    for entry in state.void:
        if entry.get("final"):
            gone[entry["load"]] = gone.get(entry["load"], 0) + 1
    return [
        (load, repeat)
        for repeat in range(max(load.repeats for load in loads))
        for load in loads
        if gone.get(load.name, 0) <= repeat < load.repeats
    ]


async def _examine(
    lab: session.Session,
    load: Load,
    repeat: int,
    calibration: Calibration,
    identity: str,
    book: ledger.Ledger,
    screen: Screen,
) -> None:
    for attempt in range(TRIES):
        inputs = run_inputs.draw(load.scenario)
        run = runner.finished(
            await runner.run(lab, load.scenario, "tweetlab validate", inputs=inputs, check=False), lab.lab
        )
        why = _void(run)
        if not why:
            examined = predict.examine(run, calibration)
            book.append(
                {
                    "type": "run",
                    "identity": identity,
                    "load": load.name,
                    "repeat": repeat,
                    "run": run.run_id,
                    "examined": examined.as_json(),
                }
            )
            return
        screen.warn(f"{load.name} does not count: {why}")
        book.append(
            {
                "type": "run",
                "identity": identity,
                "load": load.name,
                "repeat": repeat,
                "run": run.run_id,
                "void": why,
                "final": attempt + 1 == TRIES,
            }
        )


def _void(run: record.Run) -> str:
    """Return why a run does not count; "" if it does. An overloaded one counts: the twin must predict that, too."""
    if run.document["validity"]["verdict"] == "VOID":
        return "the run is void"
    found = accounts.of_run(run.series, accounts.stages_of(run.document))
    if not found.counts:
        programs = run.document["platform"].get("foreign_programs") or ()
        named = ", ".join(f"{Path((one['command'].split() or ['?'])[0]).name} ({one['core_s']:g} core s)" for one in programs)
        return f"other programs used CPU in {found.dropped:.0%} of its windows" + (f": {named}" if named else "")
    return ""


def conclude(
    calibration: Calibration, identity: str, book: ledger.Ledger, folder: Path, screen: Screen
) -> dict[str, Any]:
    """Judge what the ledger has, write the page and return the summary."""
    state = state_of(book, identity)
    if not state.runs:
        raise CouldNotRun("No run of this validation counts yet; see the warnings above, and repeat the command.")
    cells = judge.judged(state.predictions, state.runs)
    rows = judge.rows(cells)
    with screen.step("judging wrong models on the same runs"):
        mutations = _mutations(calibration, state, rows)
    begin = next(entry for entry in book.entries(identity) if entry["type"] == "begin")
    summary = {
        "identity": identity,
        "commit": begin["commit"],
        "at": begin["at"],
        "machine": store.described(calibration),
        "calibration": {"label": calibration.label},
        "runs": sum(len(runs) for runs in state.runs.values()),
        "void": [{"load": entry["load"], "why": entry["void"]} for entry in state.void],
        "rows": judge.as_json(rows),
        "cells": judge.as_json(cells),
        "capacity": judge.capacity_rows(state.predictions, state.runs),
        "cache_loss": judge.cache_loss(state.predictions, state.runs),
        "rivals": rivals.rival_errors(cells, state.predictions, calibration, _slowness(state)),
        "mutations": mutations,
        "loads": [_load(entry, state.runs.get(name, ())) for name, entry in state.predictions.items()],
        "known": list(KNOWN),
        "earlier": _earlier(book, identity),
    }
    book.append(
        {
            "type": "verdict",
            "identity": identity,
            "commit": home.commit(),
            "rows": summary["rows"],
            "rivals": summary["rivals"],
            "mutations": mutations,
            "capacity": summary["capacity"],
            "cache_loss": summary["cache_loss"],
        }
    )
    name = "quick" if begin["quick"] else "full"
    (folder / f"{name}.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    (folder / f"{name}.html").write_text(page.render(summary), encoding="utf-8")
    screen.say(f"page: {folder / f'{name}.html'}")
    return summary


def _slowness(state: State) -> dict[str, float]:
    """Return load -> the median slowness of the machine in its runs, where it was probed."""
    probed = {load: [run["slowness"] for run in runs if run["slowness"]] for load, runs in state.runs.items()}
    return {load: statistics.median(values) for load, values in probed.items() if values}


def _load(entry: Mapping[str, Any], runs: Any) -> dict[str, Any]:
    used = [run["utilization"] for run in runs]
    return {
        **{key: entry["load"][key] for key in ("name", "kind", "mix", "rate")},
        "predicted": entry["predicted"]["utilization"],
        "measured": statistics.median(used) if used else None,
        "sha256": entry["sha256"],
    }


def _mutations(calibration: Calibration, state: State, rows: list[judge.Row]) -> dict[str, list[str]]:
    """Return mutation -> the bars that it turns red and the model does not."""
    green = {(row.statistic, row.band) for row in rows if row.verdict != "misses" and row.median is not None}
    judged = {
        name: entry
        for name, entry in state.predictions.items()
        if entry["load"]["kind"] in ("examination", "headline") and state.runs.get(name)
    }
    found: dict[str, list[str]] = {}
    for name, mutate in rivals.MUTATIONS.items():
        wrong = {
            load: {
                **entry,
                "predicted": predict.of_load(scenario_of(entry), mutate(calibration), seeds=1).as_json(),
                "registered": entry["predicted"],
            }
            for load, entry in judged.items()
        }
        red = [row for row in judge.rows(judge.judged(wrong, state.runs)) if row.verdict == "misses"]
        found[name] = [f"{row.statistic} {judge.BANDS[row.band]}" for row in red if (row.statistic, row.band) in green]
    return found


def scenario_of(entry: Mapping[str, Any]) -> Any:
    """Return the scenario of a prediction in the ledger."""
    from sim import recorded

    return recorded.scenario_of({"scenario": {"resolved": entry["load"]["resolved"]}, "run_id": entry["load"]["name"]})


def _earlier(book: ledger.Ledger, identity: str) -> list[dict[str, Any]]:
    found = []
    for entry in book.entries():
        if entry["type"] == "verdict" and entry["identity"] != identity:
            judged = [row for row in entry["rows"] if row["median"] is not None]
            found.append(
                {
                    "at": entry["at"],
                    "identity": entry["identity"],
                    "commit": entry["commit"],
                    "held": sum(row["verdict"] == "holds" for row in judged),
                    "of": len(judged),
                }
            )
    return found
