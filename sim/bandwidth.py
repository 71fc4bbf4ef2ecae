"""CPU quotas: what the kernel's CFS bandwidth does to a single-threaded process whose control group has one.

    |<----- PERIOD_S ----->|<----- PERIOD_S ----->|
    run run run  (spent)   run run  idle   run ...

In each period of the group's own grid it may use `cores * PERIOD_S` of CPU. What is not used is lost; who has spent it stands
still until the next period begins. So a demand of d seconds that finds a full budget of q ends after k whole periods and d - k q
more, where k = ceil(d / q) - 1. For periods short against d the process is a server of speed q / PERIOD_S.

The kernel looks at the budget when the process sleeps and at its own tick (4 ms here): a process may overdraw by up to a tick
and pays in the next period. The model cuts exactly, so a pause may come one tick earlier here; the speed is the same.
"""

from __future__ import annotations

import math
from typing import Any

import simpy

from sim.stations import HostCpu, Task, call_after

PERIOD_S = 0.020  # as `system/platform/process/cgroups.py` sets it, which the twin may not import; a test holds the two equal
LEAST_S = 1e-9    # of CPU; rounding, not a demand
LEAST_SHARE = 0.1  # of the quota that is left at least, whatever the process burns in the background


class Bandwidth:
    """The quota of one process with one thread: at most one task of it is here at a time.

    `cores`: of CPU a second. `phase_s`: where a period begins; groups do not begin theirs together. `throttled`: periods
    in which it had to wait.
    """

    __slots__ = ("_ends_s", "_left_s", "_since", "_task", "_timer_s", "_waiting", "budget_s", "env", "host", "period_s",
                 "phase_s", "throttled")

    def __init__(self, env: simpy.Environment, host: HostCpu, cores: float, phase_s: float = 0.0,
                 period_s: float = PERIOD_S) -> None:
        self.env, self.host = env, host
        self.budget_s, self.period_s, self.phase_s = cores * period_s, period_s, phase_s
        self.throttled = 0
        self._left_s = 0.0
        self._ends_s = -math.inf
        self._since = 0.0  # virtual time of the host up to which the running task is charged
        self._task: Task | None = None
        self._waiting: Task | None = None
        self._timer_s = -math.inf

    def start(self, task: Task) -> None:
        """Let `task` run for what is left of it, as far as the budget goes; the rest in the next periods."""
        now = self.env.now
        self._refill(now)
        if self._left_s <= LEAST_S:
            self.throttled += 1
            self._waiting = task
            call_after(self.env, self._ends_s - now, self._goes_on, task)
            return
        self._task = task
        task.slice_s = min(task.rest_s, self._left_s)
        self._since = self.host.virtual_now()
        self.host.start(task)
        self._watch(now)

    def ended(self, task: Task) -> bool:
        """The slice of `task` is burnt: say whether it was the last one; else it goes on here."""
        self._task = None
        self._left_s -= self.host.virtual_now() - self._since
        task.rest_s -= task.slice_s
        if task.rest_s <= LEAST_S:
            return True
        self.start(task)
        return False

    def drop(self) -> Task | None:
        """The process died: forget its task; return it where it was waiting for the next period."""
        waiting, self._waiting, self._task = self._waiting, None, None
        return waiting

    def _refill(self, now: float) -> None:
        if now >= self._ends_s - LEAST_S:
            number = math.floor((now - self.phase_s) / self.period_s + 1e-7)
            self._ends_s = self.phase_s + (number + 1) * self.period_s
            self._left_s = self.budget_s

    def _goes_on(self, event: Any) -> None:
        task: Task = event._value
        if self._waiting is task:
            self._waiting = None
            self.start(task)

    def _watch(self, now: float) -> None:
        """Charge what runs when the period ends to that period, and give it the next one's budget."""
        if self._timer_s < self._ends_s:
            self._timer_s = self._ends_s
            call_after(self.env, self._ends_s - now, self._period_ends)

    def _period_ends(self, _event: Any) -> None:
        if self._task is None:
            return
        self._since = self.host.virtual_now()
        self._refill(self.env.now)
        self._watch(self.env.now)
