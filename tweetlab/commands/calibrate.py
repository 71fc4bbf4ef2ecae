"""`tweetlab calibrate`: measure this machine for the twin."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated, Any

import typer

from tweetlab.commands.results import Json
from tweetlab.terminal import Screen


def calibrate(
    show: Annotated[
        bool, typer.Option("--show", help="Instead, show the calibration that a prediction on this machine would use.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab running if this command started it.")] = False,
    as_json: Json = False,
) -> int:
    """Measure this machine for the digital twin: about 15 minutes, once per machine and server versions.

    The result is kept in the user's cache folder. Nothing else should run meanwhile. Exit: 0 kept, 3 refused or could
    not run. An interrupted calibration resumes if its experiment had ended.
    """
    screen = Screen(as_json)
    if show:
        return _show(screen)
    return asyncio.run(_calibrate(screen, keep))


async def _calibrate(screen: Screen, keep: bool) -> int:
    from system.kernel.policies import Policies
    from tweetlab.calibrate import experiment
    from tweetlab.lab import session

    async with session.opened(screen, "small", Policies(), keep=keep, resets=True) as lab:
        result = await experiment.full(lab, screen)
    path = experiment.kept(result)
    screen.show(f"calibrated: {path}")
    screen.show(_rungs(result.calibration.diagnostics))
    screen.emit(
        {"path": str(path), "rungs": [dataclasses.asdict(rung) for rung in result.rungs], **result.calibration.brief()}
    )
    return 0


def _show(screen: Screen) -> int:
    from tweetlab.calibrate import fingerprint, store

    chosen = store.choose("", fingerprint.here())
    made = chosen.calibration
    lines = [
        f"{made.label}",
        f"  file      {chosen.path}",
        f"  age       {_age(chosen.age_s)}",
        f"  made on   {store.described(made)}",
        *(f"  not here  {one}" for one in chosen.foreign),
    ]
    screen.show("\n".join(lines))
    screen.show(_rungs(made.diagnostics))
    screen.show(_processes(made.diagnostics, {name: dataclasses.asdict(one) for name, one in made.exponents.items()}))
    screen.emit(
        {
            "path": str(chosen.path),
            "age_s": round(chosen.age_s),
            "foreign": list(chosen.foreign),
            "fingerprint": dict(made.fingerprint),
            "exponents": {n: dataclasses.asdict(e) for n, e in made.exponents.items()},
            **made.brief(),
        }
    )
    return 0


def _age(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def _rungs(diagnostics: Any) -> Any:
    """Return the table of how well a calibration reproduces its own run."""
    from rich.table import Table

    table = Table("rate", "machine", "CPU", "p50", "p95", title="its own run, replayed: error (noise)")
    for rung in diagnostics.get("rungs", ()):
        cells = [
            f"{rung['error'][name]:+.1%} ({rung['noise'][name]:.1%})" if name in rung["error"] else ""
            for name in ("cpu", "p50", "p95")
        ]
        table.add_row(f"{rung['rate']:g}/s", f"{rung['utilization']:.0%}", *cells)
    return table


def _processes(diagnostics: Any, exponents: dict[str, dict[str, float]]) -> Any:
    """Return the table of residuals and intervals by process."""
    from rich.table import Table

    table = Table("process", "cores", "residual of a window", "exponent (90 % bounds)", title="CPU by process")
    for name, one in sorted(diagnostics.get("cpu", {}).items(), key=lambda item: -item[1]["mean_cores"]):
        exponent = exponents.get(name, {})
        bounds = f"{exponent['exponent']:.2f} ({exponent['low']:.2f} to {exponent['high']:.2f})" if exponent else ""
        table.add_row(name, f"{one['mean_cores']:.3f}", f"{one.get('residual', 0):.1%}", bounds)
    return table
