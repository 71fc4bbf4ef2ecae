"""The stations: where requests of the twin spend their time.

Every service, every store and the load generator run on the same cores (`sim.host`); one task never uses more
than one core.

**A node** is a process on that host. `width` of its tasks may use the CPU concurrently: 1 for an event loop
or for Redis' single thread (first come, first served before the shared CPU), none for a thread pool such as
Cassandra's.

Each station records what the queueing laws need: arrivals, completions, the integral of the number inside,
the sum of sojourns.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import simpy

from sim.host import Host, Task, call_after

__all__ = ["INFINITE", "Node", "Quota", "Resume", "Tally", "Task", "call_after"]

INFINITE = 1 << 60

Resume = Callable[[Any], None]


class Tally:
    """Counters of a station for the queueing laws.

    `area`: integral of the number inside over time, in job-seconds.
    """

    __slots__ = ("area", "arrivals", "completions", "inside", "lost", "since", "sojourn_s")

    def __init__(self, now: float = 0.0) -> None:
        self.arrivals = self.completions = self.lost = self.inside = 0
        self.area = self.sojourn_s = 0.0
        self.since = now

    def enter(self, now: float) -> None:
        """Count one arrival."""
        self.area += self.inside * (now - self.since)
        self.since = now
        self.inside += 1
        self.arrivals += 1

    def leave(self, now: float, arrived: float, *, lost: bool = False) -> None:
        """Count one departure of a job that arrived at `arrived`."""
        self.area += self.inside * (now - self.since)
        self.since = now
        self.inside -= 1
        self.sojourn_s += now - arrived
        if lost:
            self.lost += 1
        else:
            self.completions += 1


class Quota(Protocol):
    """CPU limit of a single-threaded process (`sim.bandwidth`)."""

    def start(self, task: Task) -> None:
        """Run `task` within the limit."""
        ...

    def ended(self, task: Task) -> bool:
        """Account for a finished slice of `task`.

        Return whether it was the last one; else the task continues.
        """
        ...

    def drop(self) -> Task | None:
        """Drop the task of a dead process; return it if it was waiting."""
        ...


class Amortization:
    """Work gets cheaper with load: one wake-up serves several requests, and caches stay warm.

    A unit of work costs (w / `reference`)^-`exponent` of its nominal demand, w being the process' own nominal work
    (CPU seconds per second) over about `AVERAGE_S`. Below `lowest` and above `highest`, the range in which it was
    measured, the factor stays constant. `beyond_s`: time above it; `most`: the highest work rate.
    """

    AVERAGE_S = 1.0
    EVERY_S = 0.1

    __slots__ = ("_factor", "_rate", "_since", "_work_s", "beyond_s", "exponent", "highest", "lowest", "most", "reference")

    def __init__(self, exponent: float, reference: float, lowest: float, highest: float) -> None:
        self.exponent, self.reference, self.lowest, self.highest = exponent, reference, lowest, highest
        self._rate = self._since = self._work_s = 0.0
        self.beyond_s = self.most = 0.0
        self._factor = self.at(lowest)

    def copy(self) -> Amortization:
        """Return the same law for another process of the same kind."""
        return Amortization(self.exponent, self.reference, self.lowest, self.highest)

    def at(self, rate: float) -> float:
        """Return the factor at a constant work rate."""
        return float((min(max(rate, self.lowest), self.highest) / self.reference) ** -self.exponent)

    def factor(self, now: float, demand_s: float) -> float:
        """Count `demand_s` seconds of nominal work and return the factor on it."""
        self._work_s += demand_s
        elapsed = now - self._since
        if elapsed >= self.EVERY_S:
            weight = math.exp(-elapsed / self.AVERAGE_S)
            self._rate = self._rate * weight + self._work_s / elapsed * (1.0 - weight)
            self._since, self._work_s = now, 0.0
            self._factor = self.at(self._rate)
            self.most = max(self.most, self._rate)
            if self._rate > self.highest:
                self.beyond_s += elapsed
        return self._factor


class Node:
    """One process on the shared CPU: FCFS for `width` slots (0: unlimited), then the CPU itself.

    `cpu_s[i]`: CPU seconds of slices that ended in second i of the run. `down`: its process is dead;
    `down_status`: the status that callers then get. `quota`: of a single-threaded one, None: no limit.
    `amortization`: how its demands fall with its load, None: constant. `realtime`: it runs before all others.
    `slowness(now)`: factor on all CPU at that time, None: 1. `off_path`: share of each demand that is
    done after the answer is on its way (collection of garbage, logs, merges): it uses CPU, but only others wait for it.
    """

    __slots__ = (
        "_width", "amortization", "busy", "cpu_s", "demand_s", "down", "down_status", "env", "host", "name", "off_path", "queue",
        "quota", "realtime", "resume", "slowness", "tally", "width"
    )  # fmt: skip

    def __init__(self, env: simpy.Environment, host: Host, name: str, width: int, resume: Resume) -> None:
        self.env = env
        self.host = host
        self.name = name
        self.width = width
        self._width = width or INFINITE
        self.resume = resume
        self.queue: deque[Task] = deque()
        self.busy = 0
        self.quota: Quota | None = None
        self.amortization: Amortization | None = None
        self.realtime = False
        self.off_path = 0.0
        self.slowness: Callable[[float], float] | None = None
        self.down = False
        self.down_status = 503
        self.tally = Tally()
        self.demand_s = 0.0
        self.cpu_s: list[float] = []

    def submit(self, job: Any, demand_s: float) -> None:
        """Queue `job` for `demand_s` seconds of CPU; then call `resume(job)`."""
        now = self.env.now
        if self.amortization is not None:
            demand_s *= self.amortization.factor(now, demand_s)
        if self.slowness is not None:
            demand_s *= self.slowness(now)
        if self.off_path:
            self._submit(now, job, demand_s * (1.0 - self.off_path))
            self._submit(now, None, demand_s * self.off_path)
        else:
            self._submit(now, job, demand_s)

    def _submit(self, now: float, job: Any, demand_s: float) -> None:
        self.tally.enter(now)
        task = Task(self, job, demand_s, now)
        if self.busy < self._width:
            self.busy += 1
            (self.quota or self.host).start(task)
        else:
            self.queue.append(task)

    def finished(self, task: Task) -> None:
        """Handle the end of `task` on the shared CPU, or of the slice that its quota allowed."""
        now = self.env.now
        self.demand_s += task.slice_s
        second = int(now)
        try:
            self.cpu_s[second] += task.slice_s
        except IndexError:
            self.cpu_s.extend([0.0] * (second + 60 - len(self.cpu_s)))
            self.cpu_s[second] += task.slice_s
        if self.quota is not None and not self.quota.ended(task):
            return
        self.tally.leave(now, task.arrived)
        if self.queue:
            (self.quota or self.host).start(self.queue.popleft())
        else:
            self.busy -= 1
        if task.job is not None:
            self.resume(task.job)

    def mean_cores(self, start_s: float, end_s: float) -> float:
        """Return the mean CPU of whole seconds from `start_s` to `end_s` of the run, cores."""
        first, last = int(start_s), int(end_s)
        return sum(self.cpu_s[first:last]) / max(last - first, 1)

    def crash(self) -> list[Any]:
        """Kill the process; return the jobs that were inside. Until `restart` new jobs find it down."""
        self.down = True
        now = self.env.now
        lost = self.host.drop(self) + list(self.queue)
        waiting = self.quota.drop() if self.quota is not None else None
        if waiting is not None:
            lost.append(waiting)
        for task in lost:
            self.tally.leave(now, task.arrived, lost=True)
        self.queue.clear()
        self.busy = 0
        return [task.job for task in lost if task.job is not None]

    def restart(self) -> None:
        """Start the process again."""
        self.down = False
