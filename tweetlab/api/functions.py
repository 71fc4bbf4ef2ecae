"""The functions of `tweetlab.api`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports import record
from scenarios import loader, spec
from sim import twin
from system.kernel.errors import NotFound, WrongInput
from tweetlab import home
from tweetlab.api.runs import Run
from tweetlab.api.sweeps import Sweep
from tweetlab.run import prediction
from tweetlab.sweep import execute, folder, grid, knee, knobs


def simulate(scenario: str | Path | spec.Scenario, *, replications: int = twin.REPLICATIONS, calibration: str | Path = "",
             **settings: Any) -> Run:
    """Predict a scenario with the twin. Starts no server; the run is not on disk until `Run.save`.

    `scenario`: a name of the catalog, the path of a YAML file, or a loaded scenario. `replications`: 1 to 1,000; their range
    is the interval of the prediction. `calibration`: a file, "" for the one of this machine, else the shipped one.
    `settings`: knobs, see the module.

    Raises WrongInput for an unknown scenario or knob, CouldNotRun if the twin does not model a part of the scenario.
    """
    if not 1 <= replications <= 1000:
        raise WrongInput(f"replications is {replications}; it must be from 1 to 1000.")
    wanted = scenario_of(scenario, **settings)
    chosen = prediction.calibration_of(str(calibration))
    predicted = prediction.predict(wanted, chosen.calibration, replications=replications)
    return Run.of_facts(predicted.facts, predicted.intervals, predicted.remarks)


def run(scenario: str | Path | spec.Scenario, *, on: str = "both", calibration: str | Path = "", keep: bool = False,
        **settings: Any) -> Run:
    """Run a scenario on the real system, and with `on="both"` predict it too; the run is on disk, as `tweetlab run` leaves it.

    `on`: 'system' or 'both'. `keep`: leave the lab running. `calibration`, `settings`: as in `simulate`. Needs the servers
    (`tweetlab doctor`).
    """
    from tweetlab.run import run_request
    from tweetlab.terminal import Screen

    if on not in ("system", "both"):
        raise WrongInput(f"on is {on!r}; it must be 'system' or 'both'. To predict alone: tweetlab.api.simulate.")
    wanted = scenario_of(scenario, **settings)
    command = f"tweetlab.api.run({wanted.name!r})"
    request = run_request.RunRequest(wanted, on, command, keep=keep, calibration_file=str(calibration))
    runs = knee.in_thread(lambda: run_request.execute(request, Screen(json_only=True)))
    return Run(runs[0])


def load(path: str | Path = "latest") -> Run | Sweep:
    """Read a run or a sweep from disk.

    `path`: a folder (or its record.json or sweep.json), `latest`, SCENARIO or SCENARIO/UTC below runs/, `sweep` for the
    newest sweep or `sweep:SCENARIO` for that of a scenario. Raises NotFound.
    """
    found = folder.find(path)
    if found is not None:
        return Sweep(found)
    for candidate in (Path(path), home.ROOT / path):
        if (candidate / record.RECORD).exists() or candidate.name == record.RECORD:
            return Run(record.read(candidate))
    try:
        return Run(record.find(home.RUNS, str(path)))
    except NotFound:
        raise NotFound(f"There is no run and no sweep {str(path)!r}; `tweetlab list runs` lists all runs.") from None


def sweep(scenario: str | Path, over: Mapping[str, Any] | Sequence[str] = (), *, figure: str = "", within: float = execute.WITHIN,
          replications: int = 0, most: int = execute.MOST, operations: int = 0, sample: int = 0, search: bool = True,
          trial_s: float = knee.TRIAL_S, calibration: str | Path = "", workers: int | None = None, fresh: bool = False,
          yes: bool = False, overrides: Sequence[str] = (), report: execute.Report | None = None) -> Sweep:
    """Predict a scenario at every point of a grid, on all cores, and find the knee and the bottleneck.

    `over`: setting -> values, a list or text: `{"rate": "100..800:8", "push_limit": [50, 300]}`; or texts as on the command
    line; empty for the `sweep` of the scenario. `figure`: what the intervals are about, such as 'home p99'
    (`tweetlab.sweep.asked`); "" for that of the first objective. `within`: replications go on until half the 95 % interval is
    at most this share of the figure, or `most` are done. `replications`: that number for every point instead. `operations`:
    per point with a `rate`; 0 for the scenario's own duration. `sample`: points of a Latin hypercube instead of the grid.
    `search`: find the knee where the grid has rates, in trials of `trial_s` measured seconds. `workers`: processes, None for
    all cores, 0 for none. `fresh`: do not resume an unfinished sweep. `yes`: allow more than 10,000 points.

    The sweep is on disk, below runs/sweeps/. A point that fails is in `Sweep.missing`.
    """
    axes = grid.axes(over or loader.load(scenario, overrides).sweep)
    definition = execute.define(scenario, axes, overrides=overrides, sample=sample, figure=figure, within=within,
                                replications=replications, most=most, operations=operations, calibration=str(calibration),
                                search=search, trial_s=trial_s, yes=yes,
                                command=f"tweetlab.api.sweep in {Path(sys.argv[0]).name or 'Python'}")
    done = execute.run(definition, workers=workers, report=report or (lambda _: None), fresh=fresh)
    return written(done.path)


def written(path: Path) -> Sweep:
    """Return the sweep in `path` after writing its table and its report."""
    from tweetlab.api import pages

    found = Sweep(path)
    pages.write(found)
    return found


def scenario(name: str | Path, **settings: Any) -> spec.Scenario:
    """Return a scenario of the catalog or of a file, with knobs applied: its question, expectation, source and load.

    Raises WrongInput for an unknown scenario or knob.
    """
    return scenario_of(name, **settings)


def scenario_of(scenario: str | Path | spec.Scenario, **settings: Any) -> spec.Scenario:
    """Return the scenario with the knobs applied. Raises WrongInput that names the knob, what is allowed and the fix."""
    rate = settings.pop("rate", None)
    overrides = []
    for key, value in settings.items():
        path = knobs.resolve(key)
        overrides.append(f"{path}={knobs.text_of(path, value)}")
    if isinstance(scenario, spec.Scenario):
        if overrides:
            raise WrongInput(f"The knob {next(iter(settings))!r} needs a scenario by name or file; a loaded one has its values.")
        loaded = scenario
    else:
        near = home.ROOT / scenario  # a notebook runs in its own folder
        loaded = loader.load(near if near.is_file() and not Path(scenario).exists() else scenario, overrides)
    return loaded if rate is None else grid.steady(loaded, grid.rate_of(rate), loaded.workload.load_s)
