"""`tweetlab run`: run a scenario on the system, predict it with the twin, or both.

`tweetlab demo`: the full walkthrough.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tweetlab.commands import graphs, options
from tweetlab.commands.results import Json, Observe
from tweetlab.terminal import Screen

if TYPE_CHECKING:
    from reports import record

EXIT_INTERRUPTED = 130


def run(scenario: Annotated[str, typer.Argument(help="A scenario of the catalog (see `tweetlab list`), or a YAML file.")],
        on: Annotated[str, typer.Option(
            help="`system` runs the scenario on real servers, `twin` predicts it, `both` does both.")] = "both",
        set_: Annotated[list[str] | None, typer.Option(
            "--set", help="Override one value of the scenario, KEY=VALUE; repeatable.")] = None,
        graph: graphs.Graph = "",
        undirected: graphs.Undirected = False,
        direction: graphs.Direction = "",
        repeat: Annotated[int | None, typer.Option(help="Number of runs, instead of the scenario's `measure.repeats` "
                                                        "(`compare` needs 5 per side).",
                                                   parser=options.whole("--repeat", 1, 100))] = None,
        versus: Annotated[list[str] | None, typer.Option(
            "--versus", help="Alternate with runs that have this KEY=VALUE (side B), then compare the sides; "
                             "repeatable.")] = None,
        keep: Annotated[bool, typer.Option("--keep", help="Leave the lab running if this run started it.")] = False,
        keep_data: Annotated[bool, typer.Option(
            "--keep-data", help="Keep the lab's data. By default it is first reset to the seeded population.")] = False,
        calibration: Annotated[str, typer.Option(
            help="Calibration file for the twin; default: the one made in this checkout, else the shipped one.")] = "",
        engine: Annotated[str, typer.Option(
            help="Engine of the twin: `compiled` (default), or `simpy`, the reference: the same result, much slower."
        )] = "",
        replications: Annotated[int | None, typer.Option(help="Replications of the twin's prediction; default: 5.",
                                                         parser=options.whole("--replications", 1, 1000))] = None,
        observe: Observe = False,
        find_capacity: Annotated[bool, typer.Option(
            "--find-capacity", help="Instead, search for the highest sustainable request rate.")] = False,
        as_json: Json = False) -> int:
    """Run a scenario on the real system, predict it with the digital twin, and write one report with both.

    Starts a lab if none is up. Exit: 0 pass, 1 fail, 2 unknown, 3 void or could not run, 130 interrupted.
    """
    from scenarios import loader, warnings
    from sim import replication, twin
    from tweetlab.run import run_request

    run_request.check_options(on, find_capacity, bool(versus), repeat or 1)
    engine = run_request.check_engine(engine or replication.DEFAULT)
    overrides = [*(set_ or []), *graphs.overrides(graph, undirected, direction)]
    wanted = loader.load(scenario, overrides)
    screen = Screen(as_json)
    for text in warnings.of(wanted):
        screen.warn(f"warning: {text}")
    if find_capacity:
        from tweetlab.run import capacity_run

        return capacity_run.command(wanted, screen)
    other = loader.load(scenario, [*overrides, *versus]) if versus else None
    request = run_request.RunRequest(wanted, on, "tweetlab " + shlex.join(sys.argv[1:]), keep, keep_data,
                                     repeat or wanted.measure.repeats, calibration, other, observe, engine,
                                     replications or twin.REPLICATIONS)
    return show(run_request.execute(request, screen), screen, compared=bool(other))


def show(runs: list[record.Run], screen: Screen, compared: bool = False) -> int:
    """Print a summary of the runs and return the worst exit code.

    `compared`: sides A and B alternate; compare them too.
    """
    from reports.judge import verdict
    from tweetlab import results

    for run_ in runs:
        screen.show(summary_lines(run_))
    for name, side in (("A", runs[::2]), ("B", runs[1::2])) if compared else (("", runs),):
        if len(side) > 1:
            screen.show(results.medians(side, name))
    if compared:
        screen.show(results.compare([r.path for r in runs[::2]], [r.path for r in runs[1::2]])["text"])
    screen.emit([{"run": str(r.path), "report": str(r.path / "report.html"), **r.document} for r in runs])
    if any(c["name"] == "ran to its end" and not c["holds"] for r in runs for c in r.document["validity"]["criteria"]):
        return EXIT_INTERRUPTED
    return verdict.exit_code(verdict.worst(str(r.document["verdict"]) for r in runs))


def summary_lines(run: record.Run) -> Text:
    """Return the verdict and what decided it, in a few lines."""
    from reports.page import render

    document = run.document
    lines = [f"  {run.run_id}  ({document['validity']['verdict']}, exit code {document['exit_code']})"]
    lines += [f"  decided by: {reason}" for reason in _list(document.get("decided_by"))]
    for objective in document["objectives"]:
        void = document["verdict"] == "VOID"  # figures of a void run are not results
        measured = "withheld" if void else f"measured {render.objective(objective)} of {objective['n']:,}"
        note = f"; {objective['note']}" if objective.get("note") and not void else ""
        word = "void" if void else objective["verdict"]
        lines.append(f"  {word:<14} {objective['text']}  ({measured}{note})")
    for finding in document["invariants"]:
        word = finding["verdict"].replace("_", " ")
        lines.append(f"  {word:<14} {finding['name']} ({finding['checked']:,} checked)")
    for fault in document.get("recovery", ()):
        note = f": {fault['note']}" if fault["note"] else ""
        lines.append(f"  {fault['verdict'].replace('_', ' '):<14} recovery of {fault['name']}{note}")
    lines.append(f"  report: {run.path / 'report.html'}")
    return Text.assemble((document["verdict"], "bold"), "\n".join(lines))


def _list(value: object) -> list[str]:
    if not value:
        return []
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def demo(observe: Observe = False, as_json: Json = False) -> int:
    """Run the full walkthrough: start a lab, calibrate the twin, run and predict `first_run`, write the report, stop."""
    from tweetlab import demo as walkthrough

    screen = Screen(as_json)
    return show_demo(asyncio.run(walkthrough.walk(screen, observe)), screen)


def show_demo(scored: record.Run, screen: Screen) -> int:
    """Print verdict, path and the next three commands."""
    code = show([scored], screen)
    screen.show("\nNext:\n  bin/tweetlab report latest --open          open the report\n"
                "  bin/tweetlab run first_run --set policies.fanout.push_limit=50\n"
                "                                             pull more authors and compare\n"
                "  bin/tweetlab up --seed                     a lab to try: addresses, a login and a curl command")
    return code
