"""The knee: the highest rate that is sustained, by the procedure of `run --find-capacity`, on the twin.

The search itself, its criteria and its precision are `tweetlab.load.capacity`: bisection to 3 %, three of three repeats,
each a minute at one rate without faults, first pages only. Here a trial is a replication of the twin; each repeat of a
rate is another one, so that three lucky draws are not one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

from scenarios import spec
from tweetlab.load import capacity
from tweetlab.sweep import grid, rows
from tweetlab.sweep.replicate import Task
from tweetlab.sweep.workers import Workers

TRIAL_S = 60.0


def find(scenario: spec.Scenario, machine: Mapping[str, float], workers: Workers, start_per_s: float, *,
         most_per_s: float = 100_000.0, trial_s: float = TRIAL_S,
         on_trial: Callable[[capacity.TrialResult], None] = lambda _: None) -> tuple[capacity.Capacity, rows.Row | None]:
    """Return the capacity of `scenario`, and the row of the last trial at it (None if no rate is carried).

    `start_per_s`: where the search starts. `most_per_s`: highest rate to try. `trial_s`: measured seconds of a trial.
    """
    carried: dict[float, rows.Row] = {}
    repeats: dict[float, int] = {}

    async def trial(rate_per_s: float) -> capacity.TrialResult:
        repeat = repeats[rate_per_s] = repeats.get(rate_per_s, -1) + 1
        at = grid.steady(scenario, rate_per_s, trial_s + scenario.measure.warm_up_s)
        row = await asyncio.wrap_future(workers.submit(Task(-1, repeat, at, machine, None, True)))
        result = capacity.TrialResult(rate_per_s, **row["trial"])
        if result.carried:
            carried[rate_per_s] = row
        return result

    found = in_thread(lambda: asyncio.run(capacity.find(trial, start_per_s, most_per_s=most_per_s, on_trial=on_trial)))
    return found, carried.get(found.rate_per_s)


def in_thread(call: Callable[[], Any]) -> Any:
    """Return the result of `call`, run in a thread: a notebook's own event loop is already running in this one."""
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = call()
        except BaseException as problem:  # raised again by the caller
            outcome["problem"] = problem

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if "problem" in outcome:
        raise outcome["problem"]
    return outcome["value"]
