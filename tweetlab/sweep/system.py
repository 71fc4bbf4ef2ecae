"""A sweep on the real system: one run after the other on one lab, each with its own record below runs/.

Minutes are counted before anything starts, since a grid that takes seconds on the twin takes an evening here.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from system.kernel.errors import LabError, WrongInput
from tweetlab.sweep import execute, folder, rows

if TYPE_CHECKING:
    from tweetlab.terminal import Screen

AROUND_RUN_S = 45.0  # reset, smoke journey, drain, final reads and report of a small population, measured on two cores
START_S = 75.0  # start and stop of the lab `small`
FREE_MIN = 20.0


def minutes(definition: execute.Definition, done: int = 0) -> float:
    """Return the expected duration in minutes. `done`: runs that are already kept."""
    loads = [one.scenario.workload.load_s for one in definition.points for _ in range(definition.fixed)]
    return (START_S + sum(load_s + AROUND_RUN_S for load_s in loads[done:])) / 60.0


def check(definition: execute.Definition, yes: bool, done: int = 0) -> None:
    """Raise WrongInput for a setting that only the twin has, or for more than FREE_MIN minutes without `yes`."""
    for point in definition.points:
        if point.machine:
            key = next(iter(point.machine))
            raise WrongInput(f"The key {key!r} changes the modeled machine; the real one cannot be changed. To fix: --on twin.")
    wanted = minutes(definition, done)
    if wanted > FREE_MIN and not yes:
        raise WrongInput(f"This sweep takes about {wanted:.0f} minutes on the system ({len(definition.points)} points, "
                         f"{definition.fixed} runs each); more than {FREE_MIN:.0f} need --yes. To fix: fewer points, or "
                         "predict it first with --on twin.")


def run(definition: execute.Definition, screen: Screen, *, report: execute.Report = lambda _: None, yes: bool = False,
        root: Path | None = None, fresh: bool = False) -> folder.Folder:
    """Run or resume the sweep; return its folder with results. After Ctrl-C too: its state is then `interrupted`."""
    check(definition, yes)
    target = execute.opened(definition, root, fresh)
    sweep = execute.Running(definition, target, report, 1)
    screen.say(f"about {minutes(definition, sum(len(one.rows) for one in sweep.points)):.0f} minutes on the system")
    complete = asyncio.run(_play(sweep, screen))
    sweep.finish(folder.COMPLETE if complete else folder.INTERRUPTED)
    return target


async def _play(sweep: execute.Running, screen: Screen) -> bool:
    """Run every point that has too few rows; return whether all was played. A run that fails loses its point only."""
    from tweetlab.lab import session
    from tweetlab.run import run_request, runner

    plan = sweep.definition
    first = plan.points[0].scenario
    start_s, played = time.monotonic(), 0
    total = len(plan.points) * plan.fixed
    async with session.opened(screen, first.platform, first.policies, resets=True) as lab:
        for one in sweep.points:
            for repeat in range(len(one.rows), plan.fixed):
                done = sum(len(each.rows) for each in sweep.points)
                left_s = (total - done) * (time.monotonic() - start_s) / played if played else None
                sweep.report(execute.Progress(len(plan.points), sum(bool(each.rows) for each in sweep.points), done, left_s,
                                              f"run {done + 1} of {total}: {one.point.text}"))
                stop = asyncio.Event()
                run_start_s = time.monotonic()
                try:
                    with run_request.interruptible(stop, screen):
                        result = await runner.run(lab, one.point.scenario, plan.command, stop=stop)
                except LabError as problem:
                    one.problem = str(problem)
                    screen.warn(f"{one.point.text}: missing: {problem}")
                    break
                if result.interrupted:
                    return False
                run = runner.finished(result, lab.lab)
                if run.document["verdict"] == "VOID":
                    one.problem = f"the run {run.run_id} is void: {run.document['decided_by']}"
                    break
                played += 1
                sweep.keep(one, {"point": one.point.number, "replication": repeat, **rows.of_run(run), "run": run.run_id,
                                 "laws_hold": True, "operations": int(run.document["summary"]["totals"]["planned"]),
                                 "took_s": round(time.monotonic() - run_start_s, 1)})
    return True


