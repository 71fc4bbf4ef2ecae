"""The command line. `COMMANDS` maps names to functions; help and docs/reference/cli.md are generated from it.

Exit codes: 0 pass, 1 fail, 2 unknown, 3 could not run or void, 64 wrong usage,
65 warnings of `check --strict`, 130 interrupted.
An error is one message that names the value, the bound and the fix. With `--json` it is also printed as one
JSON object on stdout.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer
from typer import exceptions

from system.kernel.errors import LabError
from system.kernel.telemetry import logs
from tweetlab.commands import alerting, calibrate, console, graphs, keys, lab, observe, results, validate, wan
from tweetlab.commands import run as run_commands
from tweetlab.commands import sweep as sweep_command

COMMANDS: dict[str, Callable[..., Any]] = {
    "alerts": alerting.alerts,
    "calibrate": calibrate.calibrate,
    "check": results.check,
    "compare": results.compare,
    "console": console.console,
    "demo": run_commands.demo,
    "doctor": lab.doctor,
    "down": lab.down,
    "graph": graphs.graph,
    "keys": keys.keys,
    "list": results.list_,
    "logs": observe.logs,
    "publish": results.publish,
    "report": results.report,
    "run": run_commands.run,
    "scale": lab.scale,
    "seed": lab.seed,
    "setup": lab.setup,
    "status": lab.status,
    "sweep": sweep_command.sweep,
    "traces": observe.traces,
    "up": lab.up,
    "validate": validate.validate,
    "wan": wan.wan,
}

EXIT_USAGE, EXIT_COULD_NOT_RUN, EXIT_INTERRUPTED = 64, 3, 130


def application() -> typer.Typer:
    """Return the Typer application with every command of COMMANDS."""
    app = typer.Typer(
        name="tweetlab", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
        help="A Twitter that runs on a laptop: measure it under load, break it with faults, predict it with a "
             "digital twin.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, function in sorted(COMMANDS.items()):
        app.command(name)(function)
    return app


def main(argv: list[str] | None = None) -> None:
    """Run the command and exit the process with its exit code."""
    raise SystemExit(run(sys.argv[1:] if argv is None else argv))


def run(argv: list[str]) -> int:
    """Run the command; return its exit code. Errors are one message, never a traceback (TWEETLAB_DEBUG=1 prints it)."""
    as_json = "--json" in argv
    logs.count_on_terminal()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that is not UTF-8 must not crash the command
    try:
        result = application()(args=argv, prog_name="tweetlab", standalone_mode=False)
        return int(result or 0)
    except LabError as error:
        return _refuse(error.title, error.detail, error.exit_code, as_json)
    except exceptions.Exit as leave:
        return int(leave.exit_code)
    except exceptions.TyperException as error:
        detail = f"{error.format_message()} `tweetlab --help` lists all commands."
        return _refuse("Wrong Usage", detail, EXIT_USAGE, as_json)
    except (KeyboardInterrupt, exceptions.Abort):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        return _refuse("Could Not Run", _os_error(error), EXIT_COULD_NOT_RUN, as_json)
    except Exception:
        if os.environ.get("TWEETLAB_DEBUG"):
            traceback.print_exc()
        return _refuse("Bug", f"{sys.exc_info()[1]!r}. This is a bug in tweetlab; TWEETLAB_DEBUG=1 prints the traceback.",
                       EXIT_COULD_NOT_RUN, as_json)


def _os_error(error: OSError) -> str:
    fix = " To fix: free some space, then run it again." if error.errno == 28 else ""
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.{fix}"


def _refuse(title: str, detail: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"title": title, "detail": detail, "exit_code": code}}))
    print(f"tweetlab: {detail}", file=sys.stderr)
    return code
