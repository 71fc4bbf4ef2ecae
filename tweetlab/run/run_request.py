"""Running a scenario on the system, predicting it with the twin, or both; each run becomes one record with one report.

Shared by `run` and `demo`. A prediction uses a calibration that was made before the scored run, never from
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from reports import finish, record
from scenarios import spec
from sim import calibrate, calibration, replication, twin
from system.kernel.errors import WrongInput
from tweetlab import home
from tweetlab.calibrate import store
from tweetlab.run import prediction, runner, seeding
from tweetlab.run.inputs import Inputs, draw
from tweetlab.terminal import Screen

ON = ("system", "twin", "both")


@dataclass(frozen=True)
class RunRequest:
    """What to run.

    `on`: a word of ON. `calibration_file`: "" = the one of this machine, else the shipped one.

    `keep`: do not stop the lab at the end if this run started it. `keep_data`: do not reset the lab before
    the run. `versus`: a second scenario that alternates with the first, repeat by repeat, so that drift of
    the machine affects both alike; None for none. `observe`: use a lab with the observability stack.
    `engine`: of the twin, a word of sim.replication.ENGINES. `replications`: of its prediction.
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
    engine: str = replication.DEFAULT
    replications: int = twin.REPLICATIONS


def check_on(word: str) -> str:
    """Return `word` if --on allows it. Raises WrongInput."""
    if word not in ON:
        raise WrongInput(f"--on is {word!r}; it must be one of {', '.join(ON)}.")
    return word


def check_engine(word: str) -> str:
    """Return `word` if --engine allows it. Raises WrongInput."""
    if word not in replication.ENGINES:
        raise WrongInput(f"--engine is {word!r}; it must be one of {', '.join(replication.ENGINES)}.")
    return word


def check_options(on: str, find_capacity: bool, versus: bool, repeats: int) -> None:
    """Refuse options that need the real system if --on is 'twin', before anything starts.

    Raises WrongInput.
    """
    options = {"--find-capacity": find_capacity, "--versus": versus, "--repeat": repeats > 1}
    used = [option for option, is_used in options.items() if is_used]
    if check_on(on) == "twin" and used:
        raise WrongInput(f"{used[0]} needs the real system, but --on is 'twin', which plays {twin.REPLICATIONS} replications of "
                         "one scenario. Omit one of the two.")


def execute(request: RunRequest, screen: Screen) -> list[record.Run]:
    """Run, write and render; return the runs, one per repeat.

    Ctrl-C ends the load early and still writes the report.
    """
    if request.on == "twin":
        return [_predict_alone(request, screen)]
    return asyncio.run(_run(request, screen))


async def _run(request: RunRequest, screen: Screen) -> list[record.Run]:
    from tweetlab.lab import session

    # A bad file is reported before anything starts.
    used = _calibration(request.calibration_file, screen) if request.on == "both" else None
    sides = [(scenario, _draw(scenario, screen)) for scenario in (request.scenario, request.versus) if scenario is not None]
    groups = "AB" if len(sides) > 1 else ("",)
    runs: list[record.Run] = []
    async with session.opened(screen, request.scenario.platform, request.scenario.policies, keep=request.keep,
                              observe=request.observe, resets=not request.keep_data) as lab:
        for n in range(request.repeats * len(sides)):
            repeat, side = divmod(n, len(sides))
            scenario, inputs = sides[side]
            if request.repeats > 1:
                screen.say(f"repeat {repeat + 1} of {request.repeats}{', side ' + groups[side] if groups[side] else ''}")
            stop = asyncio.Event()
            with interruptible(stop, screen):
                result = await runner.run(lab, scenario, request.command, inputs=inputs, keep_data=request.keep_data,
                                          stop=stop, group=groups[side])
            runs.append(runner.finished(result, lab.lab))
            if result.interrupted:
                break
    if used is not None:
        runs = [predict(run, *sides[n % len(sides)], used, screen, request.engine, request.replications)
                for n, run in enumerate(runs)]
    return runs


def predict(run: record.Run, scenario: spec.Scenario, inputs: Inputs, calibrated: calibration.Calibration,
            screen: Screen, engine: str = replication.DEFAULT, replications: int = twin.REPLICATIONS) -> record.Run:
    """Predict the same run with the twin and add the prediction to its report.

    Returns `run` unchanged, with a warning, where the twin does not model a route or a fault of the scenario.
    """
    if unknown := prediction.unmodelled(inputs.tape.planned(), scenario):
        screen.warn(f"no prediction: the twin does not model {', '.join(unknown)}")
        return run
    with screen.step(f"twin: {replications} replications"):
        predicted = twin.run(scenario, calibrated, inputs.tape, inputs.world.graph, past=inputs.world.past,
                             scored_run=run.run_id, machine=calibrate.machine_speed(run, calibrated), engine=engine,
                             replications=replications,
                             progress=lambda done, of: screen.say(f"twin: replication {done} of {of}"))
    foreign = store.NOT_HERE in predicted.label
    return finish.add_twin(run, predicted.facts, predicted.label, in_sample=predicted.in_sample,
                           calibration=predicted.calibration, foreign=foreign)


def _predict_alone(request: RunRequest, screen: Screen) -> record.Run:
    scenario = request.scenario
    with screen.step("drawing population and arrivals"):
        inputs = _draw(scenario, screen)
    prediction.refuse_unmodelled(inputs.tape.planned(), scenario)
    used = _calibration(request.calibration_file, screen)
    with screen.step(f"twin: {request.replications} replications"):
        predicted = prediction.predict(scenario, used, inputs=inputs, replications=request.replications, engine=request.engine)
    return finish.finish(home.RUNS, predicted.facts)


def _draw(scenario: spec.Scenario, screen: Screen) -> Inputs:
    inputs = draw(scenario)
    seeding.announce(inputs.world.graph, screen)
    return inputs


def _calibration(file: str, screen: Screen) -> calibration.Calibration:
    """Return the calibration for a prediction on this machine, and say which one it is."""
    chosen = prediction.calibration_of(file)
    screen.say(f"calibration: {chosen.calibration.label}")
    for reason in chosen.foreign:
        screen.say(f"  {reason}")
    return chosen.calibration


@contextlib.contextmanager
def interruptible(stop: asyncio.Event, screen: Screen) -> Iterator[None]:
    """Let the first Ctrl-C end the load and write the report; a second one exits immediately."""
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():  # a notebook: signals belong to its main thread
        yield
        return

    def first() -> None:
        screen.warn("interrupted: ending the load; the report is still written (Ctrl-C again exits immediately)")
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, first)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
