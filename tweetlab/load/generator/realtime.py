"""Makes this process send on time: real-time scheduling if permitted, no garbage collection pauses."""

from __future__ import annotations

import gc
import os
import resource

PRIORITY = 10  # of SCHED_FIFO, 1 to 99; any value is above all normal processes
NICE = -15  # if real-time scheduling is refused


def prefer() -> str:
    """Request the best permitted scheduling; return the result: `fifo 10`, `nice -15` or `normal`."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
        return f"fifo {PRIORITY}"
    except (PermissionError, OSError):
        pass  # not permitted here: the next best is tried and recorded
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
        return f"nice {NICE}"
    except (PermissionError, OSError):
        return "normal"


def freeze_collector() -> None:
    """Exclude existing objects from later collections, and collect rarely: a full pass would delay sends."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
