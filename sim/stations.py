"""The stations: where requests of the twin spend their time.

**The shared CPU.** Every service, every store and the load generator run on the same cores, so all of them
share one `HostCpu`. It shares evenly (processor sharing): with n tasks on c cores each runs at rate min(1, c
/ n); one task never uses more than one core. Virtual time makes this O(log n) per event: v grows at that
common rate, a task that needs d seconds of CPU and starts at v0 ends at v0 + d, and a heap orders the
completions. A change of n only changes the slope of v. Background CPU (compaction, garbage collection, the
kernel) is a constant load that reduces the cores.

**A node** is a process on that host. `width` of its tasks may use the CPU concurrently: 1 for an event loop
or for Redis' single thread (first come, first served before the shared CPU), none for a thread pool such as
Cassandra's.

Each station records what the queueing laws need: arrivals, completions, the integral of the number inside,
the sum of sojourns.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import simpy
from simpy.events import Timeout

INFINITE = 1 << 60

Resume = Callable[[Any], None]


def call_after(env: simpy.Environment, delay_s: float, function: Callable[[Any], None], value: object = None) -> None:
    """Call `function(event)` after `delay_s` seconds of simulated time; `event.value` is `value`."""
    callbacks = Timeout(env, delay_s, value).callbacks
    assert callbacks is not None
    callbacks.append(function)


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


class Task:
    """One job's visit to a node: arrival, remaining CPU demand, current slice (all without a quota)."""

    __slots__ = ("arrived", "job", "node", "rest_s", "slice_s")

    def __init__(self, node: Node, job: Any, demand_s: float, arrived: float) -> None:
        self.node: Node | None = node
        self.job = job
        self.rest_s = self.slice_s = demand_s
        self.arrived = arrived


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


class HostCpu:
    """The cores of the machine, shared evenly.

    `cores`: those that remain after the constant `background_cores`.
    """

    def __init__(self, env: simpy.Environment, cores: float, background_cores: float = 0.0) -> None:
        self.env = env
        self.cores = max(cores - background_cores, 0.05 * cores)
        self.running = 0
        self.virtual = 0.0
        self.since = 0.0
        self.busy_core_s = 0.0
        self.done_core_s = 0.0
        self._heap: list[tuple[float, int, Task]] = []
        self._order = 0
        self._timer_at = float("inf")
        self._fire = self._on_timer
        self._inside_timer = False

    def start(self, task: Task) -> None:
        """Put `task` on the CPU now."""
        now = self.env.now
        self._advance(now)
        self.running += 1
        self._order += 1
        heapq.heappush(self._heap, (self.virtual + task.slice_s, self._order, task))
        if not self._inside_timer:
            self._arm(now)

    def virtual_now(self) -> float:
        """Return the CPU seconds that a task running since the start would have received."""
        self._advance(self.env.now)
        return self.virtual

    def drop(self, node: Node) -> list[Task]:
        """Take all tasks of a dead process off the CPU and return them; CPU that they used stays counted."""
        self._advance(self.env.now)
        dropped = [task for _, _, task in self._heap if task.node is node]
        for task in dropped:
            task.node = None
        self.running -= len(dropped)
        return dropped

    def _advance(self, now: float) -> None:
        elapsed = now - self.since
        if elapsed > 0.0:
            n = self.running
            if n:
                cores = self.cores
                if n <= cores:
                    self.virtual += elapsed
                    self.busy_core_s += elapsed * n
                else:
                    self.virtual += elapsed * cores / n
                    self.busy_core_s += elapsed * cores
            self.since = now

    def _arm(self, now: float) -> None:
        """Set the timer for the next completion; an earlier one sets it again when it fires."""
        heap = self._heap
        while heap and heap[0][2].node is None:
            heapq.heappop(heap)
        if not heap:
            return
        wait = heap[0][0] - self.virtual
        if wait < 0.0:
            wait = 0.0
        elif self.running > self.cores:
            wait *= self.running / self.cores
        due = now + wait
        if due < self._timer_at:
            self._timer_at = due
            call_after(self.env, wait, self._fire, due)

    def _on_timer(self, event: Any) -> None:
        if event._value != self._timer_at:
            return
        self._timer_at = float("inf")
        now = self.env.now
        self._advance(now)
        heap = self._heap
        # 1 ns of slack: rounding of virtual time must not cost another timer.
        limit = self.virtual + 1e-9
        self._inside_timer = True
        while heap and heap[0][0] <= limit:
            task = heapq.heappop(heap)[2]
            node = task.node
            if node is not None:
                self.running -= 1
                self.done_core_s += task.slice_s
                node.finished(task)
        self._inside_timer = False
        self._arm(now)


class Node:
    """One process on the shared CPU: FCFS for `width` slots (0: unlimited), then the CPU itself.

    `cpu_s[i]`: CPU seconds of slices that ended in second i of the run. `down`: its process is dead;
    `down_status`: the status that callers then get. `quota`: of a single-threaded one, None: no limit.
    """

    __slots__ = (
        "_width", "busy", "cpu_s", "demand_s", "down", "down_status", "env", "host", "name", "queue", "quota", "resume", "tally",
        "width"
    )  # fmt: skip

    def __init__(self, env: simpy.Environment, host: HostCpu, name: str, width: int, resume: Resume) -> None:
        self.env = env
        self.host = host
        self.name = name
        self.width = width
        self._width = width or INFINITE
        self.resume = resume
        self.queue: deque[Task] = deque()
        self.busy = 0
        self.quota: Quota | None = None
        self.down = False
        self.down_status = 503
        self.tally = Tally()
        self.demand_s = 0.0
        self.cpu_s: list[float] = []

    def submit(self, job: Any, demand_s: float) -> None:
        """Queue `job` for `demand_s` seconds of CPU; then call `resume(job)`."""
        now = self.env.now
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
        self.resume(task.job)

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
        return [task.job for task in lost]

    def restart(self) -> None:
        """Start the process again."""
        self.down = False
