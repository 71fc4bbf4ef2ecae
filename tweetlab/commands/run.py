"""Commands that ask: `run` a scenario on the system, on its twin, or on both; `demo` walks the whole path once."""

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


def run(scenario: Annotated[str, typer.Argument(help="A scenario of the catalog, or a YAML file.")],
        on: Annotated[str, typer.Option(help="system, twin or both.")] = "both",
        set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, replaces one value; repeat it.")] = None,
        graph: graphs.Graph = "",
        undirected: graphs.Undirected = False,
        direction: graphs.Direction = "",
        repeat: Annotated[int | None, typer.Option(help="Runs of the same question, instead of the scenario's "
                                                        "`measure.repeats` (compare wants 5).",
                                                   parser=options.whole("--repeat", 1, 100))] = None,
        versus: Annotated[list[str] | None, typer.Option("--versus", help="KEY=VALUE: ask that too, in turn; compare.")] = None,
        keep: Annotated[bool, typer.Option("--keep", help="Leave a lab up that this run started.")] = False,
        keep_data: Annotated[bool, typer.Option("--keep-data", help="Do not reset the data to the seeded state.")] = False,
        calibration: Annotated[str, typer.Option(help="A calibration file for the twin.")] = "",
        observe: Observe = False,
        find_capacity: Annotated[bool, typer.Option("--find-capacity", help="Search the highest rate that holds.")] = False,
        as_json: Json = False) -> int:
    """Ask a scenario's question and write the report. Exit: 0 pass, 1 fail, 2 unknown, 3 void, 130 interrupted."""
    from scenarios import loader, warnings
    from tweetlab.run import capacity_run, run_request

    run_request.check_options(on, find_capacity, bool(versus), repeat or 1)
    overrides = [*(set_ or []), *graphs.overrides(graph, undirected, direction)]
    question = loader.load(scenario, overrides)
    screen = Screen(as_json)
    for text in warnings.of(question):
        screen.warn(f"warning: {text}")
    if find_capacity:
        return capacity_run.command(question, screen)
    other = loader.load(scenario, [*overrides, *versus]) if versus else None
    request = run_request.RunRequest(question, on, "tweetlab " + shlex.join(sys.argv[1:]), keep, keep_data,
                                     repeat or question.measure.repeats, calibration, other, observe)
    return show(run_request.execute(request, screen), screen, compared=bool(other))


def show(runs: list[record.Run], screen: Screen, compared: bool = False) -> int:
    """Print what the runs say and return the worst exit code. `compared`: they are sides A and B in turn; compare them too."""
    from reports.judge import verdict
    from tweetlab import results

    for told in runs:
        screen.show(summary_lines(told))
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
    """The verdict and what decided it, in a few lines."""
    from reports.page import render

    document = run.document
    lines = [f"  {run.run_id}  ({document['validity']['verdict']}, exit code {document['exit_code']})"]
    lines += [f"  decided by: {reason}" for reason in _list(document.get("decided_by"))]
    for objective in document["objectives"]:
        void = document["verdict"] == "VOID"  # no figure of a void run is shown as a result
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
    """Start a lab, seed it, calibrate the twin, run `first_run` on both, write the report, stop everything."""
    from tweetlab import demo as walk

    screen = Screen(as_json)
    return show_demo(asyncio.run(walk.walk(screen, observe)), screen)


def show_demo(told: record.Run, screen: Screen) -> int:
    """Print verdict, path and the next three commands."""
    code = show([told], screen)
    screen.show("\nNext:\n  bin/tweetlab report latest --open          look at the report\n"
                "  bin/tweetlab run first_run --set policies.fanout.push_limit=50\n"
                "                                             pull more authors, and see what it changes\n"
                "  bin/tweetlab up --seed                     a lab to play with: addresses, a login and a curl line")
    return code
