"""Tasks that stand as long as their process: who ends in a way that nobody meant is told, counted and started again.

A task that dies in silence leaves a process that looks well and does not do its work: it reads no revocations, renews no lease,
publishes nothing. What a task foresees (a store that is away) it handles itself; this is for the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from system.kernel.telemetry import metrics

PAUSE_S = 1.0  # before it begins again: an error that comes at once each time must not eat a core

_log = logging.getLogger("tweetlab")


async def keep(work: Callable[[], Awaitable[object]], task: str, once: bool = False) -> None:
    """Do `work` again and again until this task is cancelled. `task`: its name in the log and in METRICS.

    `once`: work that has an end; return after it came to it.
    """
    restarted = metrics.counter("tweetlab_task_restarts_total", task=task)
    while True:
        problem: BaseException | None = None
        try:
            await work()
            if once:
                return
        except asyncio.CancelledError as told:
            if is_cancelled():
                raise
            problem = told  # a client that cancels a task of its own may let that out
        except Exception as told:
            problem = told
        restarted(1)
        _log.error("the task %r ended; it begins again", task, exc_info=problem)
        await asyncio.sleep(PAUSE_S)


def is_cancelled() -> bool:
    """Was the cancel meant for the task that runs this?"""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
