"""What jobs wait for, as SimPy resources: the cores of the machine, the processes on them, and pools of slots.

| resource | is | a job waits with |
|---|---|---|
| `Host` | the cores: a run queue, from which each process runs for a slice at a time | |
| `Process` | one process: an event loop or single thread (width 1), or any number of threads (0) | `yield process.work(s)` |
| `Pool` | slots with a queue that may be bounded in length or in time | `yield pool.request()` |

Simulated time is a whole number of nanoseconds. Events of the same nanosecond happen in the order in which they were
scheduled, as SimPy does it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol

import simpy

from sim.clock import Environment, call_after
from sim.stations import Amortization, Pace, Tally
from sim.streams import NS, ns

SLICE_NS = 2_800_000  # of the kernel's scheduler on two cores; docs/decisions/0016-cpu-discipline.md
INFINITE = 1 << 60
REFUSED = 1503  # a 503 with `retry-after`: the service requests a pause
OF_MESH = 2503  # a 503 of the load balancer: the service did not respond

Wait = Generator[simpy.Event, Any, None]


class Failed(Exception):
    """A step failed with an HTTP `status`. `final`: no retry, because the client has left."""

    def __init__(self, status: int, final: bool = False) -> None:
        super().__init__(status)
        self.status, self.final = status, final


class Task(simpy.Event):
    """A need of CPU; the event succeeds when it has been received, and fails if the process dies.

    `rest_ns`: what it still needs; `slice_ns`: of that, what its quota allows now; `left_ns`: of the slice, not yet received.
    """

    def __init__(self, env: Environment, process: Process | None, need_ns: int) -> None:
        super().__init__(env)
        self.process = process
        self.urgent = process is not None and process.realtime
        self.rest_ns = self.slice_ns = self.left_ns = need_ns
        self.arrived_ns = env.now


class Core:
    """One core: its task, since `since_ns`, of a process that came onto it at `came_ns`; `due_ns`: when its timer fires.

    `turn`: makes older timers void. `after`: the process whose task has just ended; it may continue with another one.
    `queue`: the tasks that wait for this core, or for any.
    `speed`: None: constant. `pace`: what a nanosecond of CPU takes since `since_ns`, in parts of Pace.UNIT.
    """

    def __init__(self, queue: deque[Task], speed: Pace | None) -> None:
        self.queue, self.speed, self.pace = queue, speed, Pace.UNIT
        self.task: Task | None = None
        self.after: Process | None = None
        self.since_ns = self.came_ns = self.due_ns = self.turn = 0


class Host:
    """The cores of the machine, and one queue of tasks that wait for one.

    A process leaves its core when it has nothing to do (an event loop works off its queue first), or after a slice if
    others wait. A real-time task displaces the ordinary one that came onto its core first. `background`: (pause, CPU)
    in ns of the tasks of idle processes and of the kernel. `paces`: the speed of each core; none: constant.
    """

    def __init__(self, env: Environment, cores: int, slice_ns: int = SLICE_NS,
                 background: Iterator[tuple[int, int]] | None = None, paces: Sequence[Pace] = ()) -> None:
        self.env, self.slice_ns = env, slice_ns
        self.ready: deque[Task] = deque()
        self.cores = [Core(self.ready, paces[number] if paces else None) for number in range(cores)]
        self.urgent: deque[Task] = deque()
        self.busy_ns = self.done_ns = self.background_ns = 0
        if background is not None:
            env.process(self._background(background))

    def _background(self, tasks: Iterator[tuple[int, int]]) -> Wait:
        for pause_ns, need_ns in tasks:
            yield self.env.timeout(pause_ns)
            self.start(Task(self.env, None, need_ns))

    def start(self, task: Task) -> None:
        """Give `task` its slice of CPU, then call `task.process.finished(task)`."""
        task.left_ns, process, now = task.slice_ns, task.process, self.env.now
        for core in self.cores:
            if core.after is process and core.task is None and process is not None:
                if core.queue and now - core.came_ns >= self.slice_ns:
                    core.queue.append(task)
                else:
                    self._put(core, task, core.came_ns)
                return
        for core in self._preferred(process):  # a core that its process may leave belongs to the task that has waited longest
            if core.task is None and (core.after is None or not core.queue or task.urgent):
                self._put(core, task, now)
                return
        if task.urgent:
            self._displace_for(task)
        else:
            self._wait(task)

    def _preferred(self, _process: Process | None) -> list[Core]:
        return self.cores

    def _wait(self, task: Task) -> None:
        self.ready.append(task)
        self._limit_slices(self.cores)

    def received_ns(self, task: Task) -> int:
        """Return how much of its slice `task` has received."""
        running = next((core for core in self.cores if core.task is task), None)
        return task.slice_ns - task.left_ns + (self._ran_ns(running) if running is not None else 0)

    def _ran_ns(self, core: Core) -> int:
        return ((self.env.now - core.since_ns) * Pace.UNIT + core.pace // 2) // core.pace

    def drop(self, process: Process) -> list[Task]:
        """Take the tasks of a dead process off the CPU and return them; CPU that they used stays counted."""
        dropped = [self._take_off(core) for core in self.cores if core.task is not None and core.task.process is process]
        for queue in (self.ready, self.urgent, *(core.queue for core in self.cores)):
            waiting = [task for task in queue if task.process is process]
            dropped += waiting
            for task in waiting:
                queue.remove(task)
        for core in self.cores:
            if core.task is None:
                self._next(core)
        return dropped

    def _put(self, core: Core, task: Task, came_ns: int) -> None:
        core.task, core.since_ns, core.came_ns = task, self.env.now, came_ns
        if core.speed is not None:
            core.pace = core.speed.factor(self.env.now)
        wait_ns = (task.left_ns * core.pace + Pace.UNIT // 2) // Pace.UNIT
        self._set_timer(core, min(wait_ns, self._slice_left(core)) if core.queue else wait_ns)

    def _slice_left(self, core: Core) -> int:
        return max(core.came_ns + self.slice_ns - self.env.now, 0)

    def _set_timer(self, core: Core, wait_ns: int) -> None:
        core.turn += 1
        core.due_ns = self.env.now + wait_ns
        call_after(self.env, wait_ns, self._due, (core, core.turn))

    def _limit_slices(self, cores: list[Core]) -> None:
        """Let cores whose task runs on for longer than its slice look up at the slice's end."""
        for core in cores:
            if core.task is not None and core.due_ns > self.env.now + self._slice_left(core):
                self._set_timer(core, self._slice_left(core))

    def _displace_for(self, task: Task) -> None:
        ordinary = [core for core in self.cores if core.task is not None and not core.task.urgent]
        if not ordinary:
            self.urgent.append(task)
            return
        core = min(ordinary, key=lambda one: one.came_ns)
        core.queue.appendleft(self._take_off(core))
        self._put(core, task, self.env.now)

    def _take_off(self, core: Core) -> Task:
        task, ran_ns = core.task, self._ran_ns(core)
        assert task is not None
        task.left_ns -= ran_ns
        self.busy_ns += ran_ns
        if task.process is None:
            self.background_ns += ran_ns
        core.task = None
        core.turn += 1
        return task

    def _due(self, event: simpy.Event) -> None:
        core, turn = event.value  # type: ignore[misc]
        if turn != core.turn:
            return
        task = self._take_off(core)
        if task.left_ns > 1:  # less is rounding
            core.queue.append(task)
            self._next(core)
            return
        self.done_ns += task.slice_ns
        core.after, awaited = task.process, bool(task.callbacks)
        if task.process is not None:
            task.process.finished(task)
        if awaited and core.task is None:  # whoever waited for the task may give the process more to do, and runs first
            call_after(self.env, 0, lambda _event: self._leave(core))
        else:
            self._leave(core)

    def _leave(self, core: Core) -> None:
        core.after = None
        if core.task is None:
            self._next(core)

    def _next(self, core: Core) -> None:
        queue = self.urgent or core.queue
        if queue:
            self._put(core, queue.popleft(), self.env.now)


class Quota(Protocol):
    """The CPU limit of a single-threaded process (`sim.bandwidth`)."""

    def start(self, task: Task) -> None:
        """Run `task` within the limit."""

    def ended(self, task: Task) -> bool:
        """Account for a finished slice of `task`; return whether it was the last one."""

    def drop(self) -> list[Task]:
        """Drop the tasks of a dead process that wait for its next period."""


class Process:
    """One process on the host: first come, first served for `width` tasks at a time (0: any number).

    `realtime`: it runs before all others. `down`: it is dead, and callers get `down_status`. `quota`: its CPU limit.
    `amortization`: how its demands fall with its load. `threaded`: what falls with the load is the work of threads of its
    own (garbage collection, compilation, refreshing an index), for which no request waits. `slowness(now)`: factor on its
    CPU at that second. `off_path`: share of each demand that is done after the answer is on its way. `cpu_ns[i]`: CPU of
    slices that ended in second i.
    """

    def __init__(self, env: Environment, host: Host, name: str, width: int) -> None:
        self.env, self.host, self.name, self.width = env, host, name, width or INFINITE
        self.queue: deque[Task] = deque()
        self.busy = self.demand_ns = 0
        self.realtime = self.down = self.threaded = False
        self.down_status = 503
        self.quota: Quota | None = None
        self.amortization: Amortization | None = None
        self.slowness: Callable[[float], float] | None = None
        self.off_path = 0.0
        self.tally = Tally()
        self.cpu_ns: list[int] = []

    def work(self, demand_s: float) -> Task:
        """Return the event that succeeds after `demand_s` seconds of CPU at nominal cost."""
        now_s = self.env.now / NS
        on_path = 1.0 - self.off_path
        if self.amortization is not None:
            factor = self.amortization.factor(now_s, demand_s)
            demand_s *= factor
            if self.threaded:
                on_path *= self.amortization.least / factor
        if self.slowness is not None:
            demand_s *= self.slowness(now_s)
        task = self._enter(ns(demand_s * on_path))
        if on_path < 1.0:
            self._enter(ns(demand_s * (1.0 - on_path)))
        return task

    def _enter(self, need_ns: int) -> Task:
        self.tally.enter(self.env.now)
        task = Task(self.env, self, need_ns)
        if self.busy < self.width:
            self.busy += 1
            (self.quota or self.host).start(task)
        else:
            self.queue.append(task)
        return task

    def finished(self, task: Task) -> None:
        """Handle the end of a slice of `task`."""
        second = self.env.now // NS
        if second >= len(self.cpu_ns):
            self.cpu_ns.extend([0] * (second + 60 - len(self.cpu_ns)))
        self.cpu_ns[second] += task.slice_ns
        self.demand_ns += task.slice_ns
        if self.quota is not None and not self.quota.ended(task):
            return
        self.tally.leave(self.env.now, task.arrived_ns)
        if self.queue:
            (self.quota or self.host).start(self.queue.popleft())
        else:
            self.busy -= 1
        if task.callbacks:
            task.succeed()

    def mean_cores(self, start_s: float, end_s: float) -> float:
        """Return the mean CPU of whole seconds from `start_s` to `end_s` of the run, cores."""
        first, last = int(start_s), int(end_s)
        return sum(self.cpu_ns[first:last]) / NS / max(last - first, 1)

    def crash(self, status: int) -> int:
        """Kill the process: the tasks inside fail with `status`, later ones with `down_status`. Return their number."""
        self.down = True
        lost = [*self.host.drop(self), *self.queue, *(self.quota.drop() if self.quota is not None else ())]
        self.queue.clear()
        self.busy = 0
        for task in lost:
            self.tally.leave(self.env.now, task.arrived_ns, lost=True)
            if task.callbacks:
                task.fail(Failed(status))
        return len(lost)


class Pool:
    """`places` slots and the queue for them.

    `admits(running, waiting)`: whether one more may wait; None: always. `patience_ns`: how long it does; 0: without end.
    """

    def __init__(self, env: Environment, places: int, admits: Callable[[int, int], bool] | None = None,
                 patience_ns: int = 0) -> None:
        self.env, self.places, self.free, self.admits, self.patience_ns = env, places, places, admits, patience_ns
        self.queue: deque[simpy.Event] = deque()
        self.refused = 0

    def request(self) -> simpy.Event | None:
        """Take a slot, or return the event that succeeds with one. Raises Failed if the queue is full."""
        if self.free > 0:
            self.free -= 1
            return None
        if self.admits is not None and not self.admits(self.places - self.free, len(self.queue)):
            self.refused += 1
            raise Failed(REFUSED)
        self.queue.append(self.env.event())
        return self.queue[-1]

    def wait(self, slot: simpy.Event) -> Wait:
        """Wait for the event of `request`. Raises Failed after `patience_ns`."""
        yield slot | self.env.timeout(self.patience_ns) if self.patience_ns else slot
        if not slot.triggered:
            self.queue.remove(slot)
            raise Failed(OF_MESH)

    def release(self, _status: int = 0) -> None:
        """Release a slot; the first that waits gets it."""
        if self.queue:
            self.queue.popleft().succeed()
        else:
            self.free += 1

    def held_by(self, _ctx: object) -> Pool:
        """Return this pool, for every request."""
        return self

    enter = held_by
