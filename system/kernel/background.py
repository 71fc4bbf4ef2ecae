"""Background tasks that must outlive any error. One that exits unexpectedly is logged, counted and restarted.

A task that dies silently leaves a process that looks healthy and does not do its work: it reads no
revocations, renews no lease, publishes nothing. A task handles the errors it expects (a store that is
unavailable) itself; this module handles the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from system.kernel.telemetry import metrics

PAUSE_S = 1.0  # before a restart: an error that occurs immediately each time must not use up a core

_log = logging.getLogger("tweetlab")


async def run_forever(work: Callable[[], Awaitable[object]], task: str, once: bool = False) -> None:
    """Run `work` repeatedly until this task is cancelled. `task`: its name in the log and in METRICS.

    `once`: return after `work` finishes normally; only failures restart it.
    """
    restarted = metrics.counter("tweetlab_task_restarts_total", task=task)
    while True:
        problem: BaseException | None = None
        try:
            await work()
            if once:
                return
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            problem = error  # a client library that cancels a task of its own may let the error escape
        except Exception as error:
            problem = error
        restarted(1)
        _log.error("task %r exited unexpectedly; restarting", task, exc_info=problem)
        await asyncio.sleep(PAUSE_S)


def is_cancelled() -> bool:
    """Return whether the current task itself was cancelled, rather than something that it awaits."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
