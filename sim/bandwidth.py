"""CPU quotas: CFS bandwidth control of the Linux kernel, for a single-threaded process in a cgroup.

    |<----- PERIOD_S ----->|<----- PERIOD_S ----->|
    run run run  (spent)   run run  idle   run ...

In each period of the group's own grid it may use `cores * PERIOD_S` of CPU. Unused budget expires; a process
that has used it up is throttled until the next period. So a demand of d seconds that starts with a full
budget of q ends after k whole periods and d - k q more, where k = ceil(d / q) - 1. If periods are short
compared with d, the process is a server of speed q / PERIOD_S.

The kernel checks the budget when the process sleeps and at its tick (4 ms here): a process may overdraw by up
to a tick and pays in the next period. The model cuts exactly, so a pause may start one tick earlier here; the
speed is the same.
"""

from __future__ import annotations

import math
from typing import Any

import simpy

from sim.host import Host, call_after
from sim.stations import Task

PERIOD_S = 0.020  # as `system/platform/process/cgroups.py` sets it, which sim may not import; a test keeps them equal
LEAST_S = 1e-9    # of CPU; less is a rounding error
LEAST_SHARE = 0.1  # minimum fraction of the quota that remains after background CPU


class Bandwidth:
    """The quota of one single-threaded process: at most one of its tasks is here at a time.

    `cores`: CPU seconds per second. `phase_s`: start of a period; groups have different ones. `throttled`:
    periods in which the process had to wait.
    """

    __slots__ = ("_charged_s", "_ends_s", "_left_s", "_task", "_timer_s", "_waiting", "budget_s", "env", "host", "period_s",
                 "phase_s", "throttled")

    def __init__(self, env: simpy.Environment, host: Host, cores: float, phase_s: float = 0.0,
                 period_s: float = PERIOD_S) -> None:
        self.env, self.host = env, host
        self.budget_s, self.period_s, self.phase_s = cores * period_s, period_s, phase_s
        self.throttled = 0
        self._left_s = 0.0
        self._ends_s = -math.inf
        self._charged_s = 0.0  # CPU of the running task's slice that is charged already
        self._task: Task | None = None
        self._waiting: Task | None = None
        self._timer_s = -math.inf

    def start(self, task: Task) -> None:
        """Run the rest of `task` as far as the budget allows, and what remains in the next periods."""
        now = self.env.now
        self._refill(now)
        if self._left_s <= LEAST_S:
            self.throttled += 1
            self._waiting = task
            call_after(self.env, self._ends_s - now, self._next_period, task)
            return
        self._task = task
        task.slice_s = min(task.rest_s, self._left_s)
        self._charged_s = 0.0
        self.host.start(task)
        self._watch(now)

    def ended(self, task: Task) -> bool:
        """Account for a finished slice of `task`.

        Return whether it was the last one; else the task continues here.
        """
        self._task = None
        self._left_s -= task.slice_s - self._charged_s
        task.rest_s -= task.slice_s
        if task.rest_s <= LEAST_S:
            return True
        self.start(task)
        return False

    def drop(self) -> Task | None:
        """The process died: drop its task; return it if it was waiting for the next period."""
        waiting, self._waiting, self._task = self._waiting, None, None
        return waiting

    def _refill(self, now: float) -> None:
        if now >= self._ends_s - LEAST_S:
            number = math.floor((now - self.phase_s) / self.period_s + 1e-7)
            self._ends_s = self.phase_s + (number + 1) * self.period_s
            self._left_s = self.budget_s

    def _next_period(self, event: Any) -> None:
        task: Task = event._value
        if self._waiting is task:
            self._waiting = None
            self.start(task)

    def _watch(self, now: float) -> None:
        """Charge the running task to the period that ends, and give it the budget of the next one."""
        if self._timer_s < self._ends_s:
            self._timer_s = self._ends_s
            call_after(self.env, self._ends_s - now, self._period_ends)

    def _period_ends(self, _event: Any) -> None:
        if self._task is None:
            return
        self._charged_s = self.host.received_s(self._task)
        self._refill(self.env.now)
        self._watch(self.env.now)
