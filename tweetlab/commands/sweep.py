"""`tweetlab sweep`: one scenario at many points of its settings."""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from system.kernel.errors import WrongInput
from tweetlab.commands import options
from tweetlab.commands.results import Json
from tweetlab.terminal import Screen

if TYPE_CHECKING:
    from tweetlab.api.sweeps import Sweep
    from tweetlab.sweep.execute import Progress

EXIT_UNKNOWN, EXIT_MISSING, EXIT_INTERRUPTED = 2, 3, 130
EVERY_S = 2.0  # between two lines of progress


def sweep(scenario: Annotated[str, typer.Argument(help="A scenario of the catalog (see `tweetlab list`), or a YAML file.")],
          over: Annotated[list[str] | None, typer.Option(
              "--over", help="A setting and its values: KEY=a,b,c, or KEY=lo..hi:n for n even steps (KEY=lo..hi:n:log by ratio). "
                             "Repeatable: every combination. KEY is a setting of a scenario file, by its last words, or rate, "
                             "load, cores, cost.NODE, delay.HOP. Default: the `sweep` of the scenario.")] = None,
          on: Annotated[str, typer.Option(help="`twin` predicts every point, `system` runs it on real servers.")] = "twin",
          set_: Annotated[list[str] | None, typer.Option(
              "--set", help="Override one value of the scenario at every point, KEY=VALUE; repeatable.")] = None,
          figure: Annotated[str, typer.Option(
              help="What the intervals are about: `home p99`, `errors`, `throughput`, `utilization`, `cores NODE`, "
                   "`delivery p99`, `writes per tweet`; default: the figure of the first objective.")] = "",
          within: Annotated[str, typer.Option(
              help="Add replications until half the 95 % interval is within this share of the figure.")] = "10 %",
          replications: Annotated[int, typer.Option(help="This number of replications (of runs, on the system) instead; 0: as "
                                                         "many as --within needs.",
                                                    parser=options.whole("--replications", 0, 1000))] = 0,
          most: Annotated[int, typer.Option(help="Most replications of a point; then its interval is `not reached`.",
                                            parser=options.whole("--most", 5, 1000))] = 50,
          operations: Annotated[int, typer.Option(help="Operations per point with a rate; 0: the scenario's own duration.",
                                                  parser=options.whole("--operations", 0, 100_000_000))] = 0,
          sample: Annotated[int, typer.Option(help="Draw this many points as a Latin hypercube instead of the grid; ranges may "
                                                   "then be KEY=lo..hi.", parser=options.whole("--sample", 0, 10_000_000))] = 0,
          knee: Annotated[bool, typer.Option("--knee/--no-knee", help="Search for the highest sustained rate, as "
                                                                      "`run --find-capacity` does, if rate is varied.")] = True,
          calibration: Annotated[str, typer.Option(help="Calibration file for the twin; default: that of this machine.")] = "",
          workers: Annotated[int, typer.Option(help="Processes; 0: one per core.",
                                               parser=options.whole("--workers", 0, 1024))] = 0,
          fresh: Annotated[bool, typer.Option("--fresh", help="Do not resume an interrupted sweep.")] = False,
          yes: Annotated[bool, typer.Option("--yes", help="Allow more than 10,000 points, or more than 20 minutes on the "
                                                          "system.")] = False,
          as_json: Json = False) -> int:
    """Predict a scenario at every point of a grid, on all cores: table, figure, knee and bottleneck.

    An interrupted sweep resumes with the same command. Exit: 0 complete, 2 an interval was not reached, 3 points are
    missing, 130 interrupted.
    """
    from scenarios import loader, units
    from tweetlab.api import functions
    from tweetlab.sweep import execute, grid
    from tweetlab.sweep import system as on_system

    screen = Screen(as_json)
    if on not in ("twin", "system"):
        raise WrongInput(f"--on is {on!r}; it must be twin or system.")
    over = over or list(loader.load(scenario, set_ or []).sweep)
    if not over:
        raise WrongInput(f"The scenario {scenario!r} names no settings to vary (`sweep:`), and there is no --over; name one and "
                         "its values, such as --over rate=100..800:8.")
    try:
        share = units.share(within)
    except units.UnitError as problem:
        raise WrongInput(f"--within is {problem}") from None
    definition = execute.define(
        scenario, grid.axes(over), overrides=set_ or [], sample=sample, figure=figure, within=share, replications=replications,
        most=most, operations=operations, calibration=calibration, search=knee and on == "twin", yes=yes,
        command="tweetlab " + shlex.join(sys.argv[1:]), on=on)
    report = _Printer(screen)
    screen.say(f"{len(definition.points)} points, {definition.figure}; calibration: {definition.chosen.calibration.label}")
    if on == "system":
        folder = on_system.run(definition, screen, report=report, yes=yes, fresh=fresh)
    else:
        folder = execute.run(definition, workers=workers or None, report=report, fresh=fresh)
    return show(functions.written(folder.path), screen)


class _Printer:
    """Prints a line of progress at most every EVERY_S seconds; a new step immediately."""

    def __init__(self, screen: Screen) -> None:
        self._screen, self._last_s, self._step = screen, 0.0, ""

    def __call__(self, progress: Progress) -> None:
        now_s = time.monotonic()
        if progress.step == self._step and now_s - self._last_s < EVERY_S:
            return
        self._last_s, self._step = now_s, progress.step
        if progress.step != "replications":
            self._screen.say(progress.step)
            return
        left = "" if progress.left_s is None else f", about {_duration(progress.left_s)} left"
        self._screen.say(f"{progress.points_done} of {progress.points} points, {progress.replications} replications{left}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def show(found: Sweep, screen: Screen) -> int:
    """Print table and answers; return the exit code."""
    from rich.table import Table

    from tweetlab.api import pages

    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(pages.columns(found)):
        table.add_column(name, justify="left" if number < len(found.keys) or name == "labels" else "right")
    for row in pages.cells(found):
        table.add_row(*row)
    screen.show(table)
    for line in found.sentences():
        screen.show(line)
    screen.show(f"report: {found.path / pages.PAGE}")
    screen.emit({"sweep": str(found.path), "report": str(found.path / pages.PAGE), **found.document})
    if found.document["state"] == "interrupted":
        screen.warn("interrupted: the same command resumes this sweep")
        return EXIT_INTERRUPTED
    if len(found.missing):
        screen.warn("points are missing: the same command plays them again")
        return EXIT_MISSING
    if found.document["on"] != "twin":
        return 0
    points = found.document["points"]
    short = [point for point in points if point["state"] == "ok" and point["reached"] is False and point["carried"]]
    return EXIT_UNKNOWN if short else 0
