"""Asking a question of the system, of its twin, or of both, and writing one record with one report.

What `run` and `demo` share. A prediction rests on a calibration that was made before the scored run, never on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports import finish, record
from scenarios import loader, spec
from sim import calibrate, calibration, faults, services, twin
from system.kernel.errors import CouldNotRun, WrongInput
from tweetlab import home
from tweetlab.run import runner, seeding
from tweetlab.terminal import Screen

CALIBRATION_TRIES = 2
CALIBRATION_SCENARIO = "calibrate_quick"
ON = ("system", "twin", "both")


@dataclass(frozen=True)
class Ask:
    """What to ask. `on`: a word of ON. `calibration_file`: empty = the newest one made here, else the shipped one.

    `versus`: a second question that is asked in turn with the first, repeat by repeat, so that drift of the machine hits both.
    `observe`: on a lab with Prometheus and the others that look on.
    """

    scenario: spec.Scenario
    on: str
    command: str
    keep: bool = False
    keep_data: bool = False
    repeats: int = 1
    calibration_file: str = ""
    versus: spec.Scenario | None = None
    observe: bool = False


def check_on(word: str) -> str:
    """Return `word` if it names whom to ask. Raises WrongInput."""
    if word not in ON:
        raise WrongInput(f"--on is {word!r}; it must be one of {', '.join(ON)}.")
    return word


def check_wishes(on: str, find_capacity: bool, versus: bool, repeats: int) -> None:
    """Refuse what the twin alone cannot answer, before anything starts. Raises WrongInput."""
    wishes = {"--find-capacity": find_capacity, "--versus": versus, "--repeat": repeats > 1}
    asked = [wish for wish, wanted in wishes.items() if wanted]
    if check_on(on) == "twin" and asked:
        raise WrongInput(f"{asked[0]} asks the real system, but --on is 'twin', which plays {twin.REPLICATIONS} replications of "
                         "one question. Leave one of the two out.")


def answer(ask: Ask, screen: Screen) -> list[record.Run]:
    """Ask, write and render; return the runs (one a repeat). Ctrl-C ends the load early and still writes the report."""
    if ask.on == "twin":
        return [_twin_alone(ask, screen)]
    return asyncio.run(_system(ask, screen))


async def _system(ask: Ask, screen: Screen) -> list[record.Run]:
    from tweetlab.lab import session

    used = _calibration(ask.calibration_file) if ask.on == "both" else None  # a bad file is told before anything starts
    turns = [(q, _world(q, screen)) for q in (ask.scenario, ask.versus) if q is not None]
    runs: list[record.Run] = []
    async with session.opened(screen, ask.scenario.platform, ask.scenario.policies, keep=ask.keep,
                              observe=ask.observe, resets=not ask.keep_data) as lab:
        for n in range(ask.repeats * len(turns)):
            side = n % len(turns)
            question, world = turns[side]
            if ask.repeats > 1:
                screen.say(f"repeat {n // len(turns) + 1} of {ask.repeats}{', side ' + 'AB'[side] if len(turns) > 1 else ''}")
            lab.wanted = question.policies
            if ask.keep_data:  # otherwise the reset starts the services with them
                await lab.apply(question.policies)
            stop = asyncio.Event()
            with interruptible(stop, screen):
                told = await runner.run(lab, question, ask.command, world=world, keep_data=ask.keep_data, stop=stop,
                                        group="AB"[side] if len(turns) > 1 else "")
            runs.append(runner.finished(told, lab.lab))
            if told.interrupted:
                break
    if used is not None:
        runs = [predict(run, *turns[n % len(turns)], used, screen) for n, run in enumerate(runs)]
    return runs


def predict(run: record.Run, scenario: spec.Scenario, world: runner.World, with_: calibration.Calibration,
            screen: Screen) -> record.Run:
    """Let the twin answer the same question, and draw its answer over the run's; none where it lacks a route or a fault."""
    if unknown := unmodelled(world, scenario):
        screen.warn(f"no prediction: the twin does not model {', '.join(unknown)}")
        return run
    with screen.step(f"twin: {twin.REPLICATIONS} replications"):
        told = twin.run(scenario, with_, world.tape, world.graph, scored_run=run.run_id,
                        progress=lambda done, of: screen.say(f"twin: replication {done} of {of}"))
    return finish.add_twin(run, told.facts, told.label, in_sample=told.in_sample, calibration=told.calibration)


def unmodelled(world: runner.World, scenario: spec.Scenario) -> list[str]:
    """Return the routes that were drawn and that the twin has no program for, and the faults that it cannot play."""
    routes = sorted(world.tape.planned().keys() - services.ROUTES.keys())
    return [*routes, *faults.lacking(scenario)]


def _twin_alone(ask: Ask, screen: Screen) -> record.Run:
    with screen.step("drawing population and arrivals"):
        world = _world(ask.scenario, screen)
    if unknown := unmodelled(world, ask.scenario):
        raise CouldNotRun(f"The twin does not model {', '.join(unknown)}, which this scenario holds; ask the real system: "
                          "--on system.")
    used = _calibration(ask.calibration_file)
    screen.say(f"calibration: {used.label}")
    with screen.step(f"twin: {twin.REPLICATIONS} replications"):
        told = twin.run(ask.scenario, used, world.tape, world.graph)
    return finish.finish(home.RUNS, told.facts)


def _world(scenario: spec.Scenario, screen: Screen) -> runner.World:
    world = runner.world_of(scenario)
    seeding.announce(world.graph, screen)
    return world


def _calibration(file: str) -> calibration.Calibration:
    if file:
        return calibration.load(Path(file))
    made_here, shipped = home.ROOT / ".tweetlab" / "calibration.json", calibration.default()
    if not made_here.exists():
        return shipped
    made = calibration.load(made_here)
    # One that was made before the model learned a new unit of work cannot answer for it any more.
    return made if made.units.keys() >= shipped.units.keys() else shipped


async def quick_calibration(lab: Any, screen: Screen, population: spec.Population, seed: int) -> calibration.Calibration:
    """Run the 20 s low-load scenario on `population` and calibrate the twin from it; keep the file for later runs.

    A run that is void (a neighbour took the CPU, say) is made once more; where that one is void too, the twin predicts with
    the calibration that ships with the lab, and its label says so.
    """
    import dataclasses

    cold = dataclasses.replace(population, cache="cold")  # hits and rebuilds both have to occur to be told apart
    scenario = dataclasses.replace(loader.load(CALIBRATION_SCENARIO), population=cold, seed=seed)
    for _ in range(CALIBRATION_TRIES):
        told = await runner.run(lab, scenario, f"tweetlab run {CALIBRATION_SCENARIO}", check=False)
        run = runner.finished(told, lab.lab)
        if run.document["validity"]["verdict"] != "VOID":
            made = calibrate.quick(run)
            path = home.ROOT / ".tweetlab" / "calibration.json"
            path.parent.mkdir(exist_ok=True)
            made.save(path)
            screen.say(f"calibrated: {made.label}")
            return made
        screen.warn(f"the calibration run is void; its report says why: {run.path}/report.html")
    shipped = calibration.default()
    screen.warn(f"the twin predicts with the calibration that ships with the lab: {shipped.label}")
    return shipped


@contextlib.contextmanager
def interruptible(stop: asyncio.Event, screen: Screen) -> Iterator[None]:
    """Let the first Ctrl-C end the load and write the report; a second one leaves at once."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        screen.warn("interrupted: ending the load; the report is still written (Ctrl-C again leaves at once)")
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, first)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
