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

from typing import Any

from sim.clock import Environment, call_after
from sim.resources import Host, Task
from sim.streams import ns

PERIOD_S = 0.020  # as `system/platform/process/cgroups.py` sets it, which sim may not import; a test keeps them equal
LEAST_SHARE = 0.1  # minimum fraction of the quota that remains after background CPU


class Bandwidth:
    """The quota of one single-threaded process: at most one of its tasks is here at a time.

    `cores`: CPU seconds per second. `phase_s`: start of a period; groups have different ones. `throttled`:
    periods in which the process had to wait.
    """

    def __init__(self, env: Environment, host: Host, cores: float, phase_s: float = 0.0,
                 period_s: float = PERIOD_S) -> None:
        self.env, self.host = env, host
        self.budget_ns, self.period_ns, self.phase_ns = ns(cores * period_s), ns(period_s), ns(phase_s)
        self.throttled = 0
        self._left_ns = self._ends_ns = 0
        self._charged_ns = 0  # CPU of the running task's slice that is charged already
        self._task: Task | None = None
        self._waiting: Task | None = None
        self._timer_ns = -1

    def start(self, task: Task) -> None:
        """Run the rest of `task` as far as the budget allows, and what remains in the next periods."""
        self._refill()
        if self._left_ns <= 0:
            self.throttled += 1
            self._waiting = task
            call_after(self.env, self._ends_ns - self.env.now, self._next_period, task)
            return
        self._task = task
        task.slice_ns = min(task.rest_ns, self._left_ns)
        self._charged_ns = 0
        self.host.start(task)
        self._watch()

    def ended(self, task: Task) -> bool:
        """Account for a finished slice of `task`.

        Return whether it was the last one; else the task continues here.
        """
        self._task = None
        self._left_ns -= task.slice_ns - self._charged_ns
        task.rest_ns -= task.slice_ns
        if task.rest_ns <= 0:
            return True
        self.start(task)
        return False

    def drop(self) -> list[Task]:
        """The process died: drop its task; return it if it was waiting for the next period."""
        waiting, self._waiting, self._task = self._waiting, None, None
        return [] if waiting is None else [waiting]

    def _refill(self) -> None:
        if self.env.now >= self._ends_ns:
            number = (self.env.now - self.phase_ns) // self.period_ns
            self._ends_ns = self.phase_ns + (number + 1) * self.period_ns
            self._left_ns = self.budget_ns

    def _next_period(self, event: Any) -> None:
        task: Task = event.value
        if self._waiting is task:
            self._waiting = None
            self.start(task)

    def _watch(self) -> None:
        """Charge the running task to the period that ends, and give it the budget of the next one."""
        if self._timer_ns < self._ends_ns:
            self._timer_ns = self._ends_ns
            call_after(self.env, self._ends_ns - self.env.now, self._period_ends)

    def _period_ends(self, _event: Any) -> None:
        if self._task is None:
            return
        self._charged_ns = self.host.received_ns(self._task)
        self._refill()
        self._watch()
