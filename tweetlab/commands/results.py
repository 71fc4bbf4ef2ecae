"""Commands that read scenarios, runs and reports. None of them starts a server."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from system.kernel.errors import WrongInput
from tweetlab import home
from tweetlab.terminal import Screen

EXIT_WARNINGS = 65

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON value on stdout.")]
Observe = Annotated[bool, typer.Option(
    "--observe", help="Also start the observability stack (Prometheus, Alertmanager, Jaeger, log shipping).")]
RunDir = Annotated[str, typer.Argument(
    help="A run: its directory, `latest`, or SCENARIO/UTC under runs/. Or a sweep: its directory, `sweep`, `sweep:SCENARIO`.")]


def find_run(name: str) -> Path:
    """Return the directory of a run. Raises WrongInput, listing the newest runs, if there is no such run."""
    for candidate in (Path(name), home.RUNS / name):
        if (candidate / "record.json").exists():
            return candidate.resolve()
    newest = sorted(home.RUNS.glob("*/*/record.json"), key=lambda p: p.stat().st_mtime, reverse=True)[:3]
    known = ", ".join(str(p.parent.relative_to(home.RUNS)) for p in newest) or "none yet; `tweetlab run first_run` creates one"
    raise WrongInput(f"There is no run {name!r} (record.json not found). Newest runs: {known}.")


def check(file: Annotated[str, typer.Argument(help="A scenario of the catalog (see `tweetlab list`), or a YAML file.")],
          set_: Annotated[list[str] | None, typer.Option(
              "--set", help="Override one value of the scenario, KEY=VALUE; repeatable.")] = None,
          strict: Annotated[bool, typer.Option("--strict", help="Exit with 65 if there are warnings.")] = False,
          as_json: Json = False) -> int:
    """Validate a scenario without running it: report errors, and warnings about results that a run could not judge.

    Exit: 0 valid (with or without warnings), 64 invalid, 65 warnings with `--strict`.
    """
    from scenarios import loader

    checked = loader.check(file, set_ or [])
    screen = Screen(as_json)
    document: dict[str, Any] = {"name": file, "ok": not checked.errors, "errors": checked.errors,
                                "warnings": checked.warnings}
    for text in checked.warnings:
        screen.warn(f"warning: {text}")
    if checked.errors or checked.scenario is None:
        for text in checked.errors:
            screen.warn(f"tweetlab: {text}")
        detail = "\n".join(checked.errors)
        error = {"title": WrongInput.title, "detail": detail, "exit_code": WrongInput.exit_code}
        screen.emit({**document, "error": error})
        return WrongInput.exit_code
    scenario, count = checked.scenario, len(checked.warnings)
    warnings = f" {count} warning{'s' if count > 1 else ''}." if count else ""
    screen.show(f"{scenario.name}: valid.{warnings} {scenario.question}")
    screen.emit({**document, "name": scenario.name, "resolved": scenario.resolved()})
    return EXIT_WARNINGS if strict and checked.warnings else 0


def list_(what: Annotated[str, typer.Argument(
    help="What to list: `scenarios`, `faults`, `invariants`, `routes` or `runs`.")] = "scenarios",
          as_json: Json = False) -> int:
    """List scenarios, faults, invariants, routes or runs."""
    from tweetlab import listing

    screen = Screen(as_json)
    rows = listing.rows(what)
    for row in rows:
        screen.show("  ".join(f"{value:<20}" if n == 0 else str(value) for n, value in enumerate(row.values())))
    screen.emit(rows)
    return 0


def report(run: RunDir = "latest",
           open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
           md: Annotated[bool, typer.Option("--md", help="Print the report as Markdown.")] = False,
           junit: Annotated[bool, typer.Option("--junit", help="Print the verdicts as JUnit XML.")] = False,
           as_json: Json = False) -> int:
    """Render a run's report again and print its path, or print the run as Markdown or JUnit XML."""
    from tweetlab import results

    if sweep := find_sweep(run):
        return _report_sweep(sweep, open_, md, junit, Screen(as_json))
    directory = find_run(run)
    screen = Screen(as_json)
    if md or junit:
        text = results.markdown(directory) if md else results.junit(directory)
        if not as_json:
            print(text)
        screen.emit({"markdown" if md else "junit": text})
        return 0
    page = results.write(directory)
    screen.show(str(page))
    screen.emit({"report": str(page), "record": json.loads((directory / "record.json").read_text())})
    if open_:
        webbrowser.open(page.as_uri())
    return 0


def find_sweep(name: str) -> Path | None:
    """Return the folder of a sweep: its path, `sweeps/SCENARIO/UTC`, `sweep` or `sweep:SCENARIO`; None if it is none."""
    from tweetlab.sweep import folder

    return folder.find(name)


def _report_sweep(path: Path, open_: bool, md: bool, junit: bool, screen: Screen) -> int:
    from tweetlab.api import functions, pages

    if junit:
        raise WrongInput(f"--junit is for a run; {path.name} is a sweep, which has no verdict. To fix: --md, or a run.")
    found = functions.written(path)
    if md:
        text = pages.markdown(found)
        if not screen.json_only:
            print(text)
        screen.emit({"markdown": text})
        return 0
    page = path / pages.PAGE
    screen.show(str(page))
    screen.emit({"report": str(page), "sweep": found.document})
    if open_:
        webbrowser.open(page.as_uri())
    return 0


def compare(a: Annotated[list[str], typer.Argument(help="The runs of side A. Without --with: one run of A and one of B.")],
            with_: Annotated[list[str] | None, typer.Option("--with", help="A run of side B; repeatable.")] = None,
            across_providers: Annotated[bool, typer.Option(
                "--across-providers", help="Compare a native lab with one on Docker, which is refused otherwise.")] = False,
            md: Annotated[bool, typer.Option("--md", help="Print Markdown.")] = False,
            as_json: Json = False) -> int:
    """Compare two sets of runs of at least five each, interleaved: changed, not changed, or cannot tell.

    Exit: 0 not changed, 1 changed, 2 cannot tell.
    """
    from tweetlab import results

    if not with_:
        a, with_ = _halves(a)
    sweeps = [find_sweep(name) for name in (*a, *with_)]
    if any(sweeps):
        return _compare_sweeps(sweeps, Screen(as_json))
    comparison: dict[str, Any] = results.compare([find_run(x) for x in a], [find_run(x) for x in with_],
                                                 across_providers)
    screen = Screen(as_json)
    screen.show(comparison["markdown"] if md else comparison["text"])
    screen.emit({k: v for k, v in comparison.items() if k not in ("text", "markdown")})
    return int(comparison["exit_code"])


def _compare_sweeps(sweeps: list[Path | None], screen: Screen) -> int:
    from tweetlab.sweep import comparison

    paths = [path for path in sweeps if path is not None]
    if len(paths) != 2 or len(sweeps) != 2:
        raise WrongInput(f"compare got {len(paths)} sweeps among {len(sweeps)} names; give exactly two sweeps, or runs only.")
    found = comparison.compare(*paths)
    screen.show(found["text"])
    screen.emit({key: value for key, value in found.items() if key not in ("text", "markdown")})
    return int(found["exit_code"])


def _halves(runs: list[str]) -> tuple[list[str], list[str]]:
    if len(runs) != 2:
        raise WrongInput(f"compare got {len(runs)} runs and no --with; give two runs, or A A A … --with B --with B …")
    return [runs[0]], [runs[1]]


def publish(run: RunDir = "latest",
            name: Annotated[str, typer.Option(
                help="Folder under reports/gallery/; default: the scenario's name.")] = "",
            as_json: Json = False) -> int:
    """Copy the report and the record of a run or a sweep into reports/gallery/, at most 1 MB together.

    The copy has no host name, no user name and no absolute paths.
    """
    from tweetlab import results

    if sweep := find_sweep(run):
        from tweetlab.api import functions, pages

        target = pages.publish(functions.written(sweep), name)
    else:
        target = results.publish(find_run(run), name)
    screen = Screen(as_json)
    screen.show(f"published: {target}")
    screen.emit({"published": str(target)})
    return 0
