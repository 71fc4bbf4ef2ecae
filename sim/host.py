"""The cores of the machine, which every process shares, under three CPU disciplines.

| discipline | who runs |
|---|---|
| `ProcessorSharing` | n tasks on c cores run at rate min(1, c / n) each: the ideal that a fair scheduler approximates |
| `RunQueue` | c tasks run, the others wait in one queue; a task that others wait for leaves its core after a slice |
| `CoreQueues` | as `RunQueue` with a queue for each core; an idle core takes a task of another only after a while |

A fair scheduler does not share continuously: a task that wakes waits until a running one has had its slice.
For a short task that wait is the response time, which is why sharing predicts too short tails on a busy
machine. `docs/decisions/0016-cpu-discipline.md` has the stress test that chose `RunQueue`.

Tasks of a real-time process never wait for others. Background CPU (timers of idle processes, the kernel) is a
stream of short tasks (`Background`), or under `ProcessorSharing` a constant reduction of the cores.

The cores of a virtual machine change their speed all the time (`Pace`): each is half of a physical core whose other
half belongs to somebody else. All CPU here is counted at mean speed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import simpy
from simpy.events import Timeout


def call_after(env: simpy.Environment, delay_s: float, function: Callable[[Any], None], value: object = None) -> None:
    """Call `function(event)` after `delay_s` seconds of simulated time; `event.value` is `value`."""
    callbacks = Timeout(env, delay_s, value).callbacks
    assert callbacks is not None
    callbacks.append(function)


class Process(Protocol):
    """A process on the host. `realtime`: it runs before all others."""

    realtime: bool

    def finished(self, task: Task) -> None:
        """Handle the end of a slice of `task`."""
        ...


class Task:
    """One job's visit to a node: arrival, remaining CPU demand, current slice (all without a quota).

    `node`: None for background work. `mark`: the host's note of what the slice has received or still needs.
    """

    __slots__ = ("arrived", "job", "mark", "node", "rest_s", "slice_s")

    def __init__(self, node: Process | None, job: Any, demand_s: float, arrived: float) -> None:
        self.node = node
        self.job = job
        self.rest_s = self.slice_s = demand_s
        self.arrived = arrived
        self.mark = 0.0


class Host(Protocol):
    """The shared CPU. `cores`: their number. `busy_core_s`: core seconds used; `done_core_s`: of finished slices;
    `background_core_s`: of background tasks.
    """

    cores: float
    busy_core_s: float
    done_core_s: float
    background_core_s: float

    def start(self, task: Task) -> None:
        """Run `task.slice_s` seconds of CPU, then call `task.node.finished(task)`."""
        ...

    def received_s(self, task: Task) -> float:
        """Return the CPU seconds that `task` has received of its current slice."""
        ...

    def drop(self, node: Process) -> list[Task]:
        """Take all tasks of a dead process off the CPU and return them; CPU that they used stays counted."""
        ...


class ProcessorSharing:
    """The cores, shared evenly: O(log n) an event by virtual time.

    v grows at the common rate, a task that needs d seconds of CPU and starts at v0 ends at v0 + d, and a heap
    orders the completions. A change of n only changes the slope of v.
    """

    def __init__(self, env: simpy.Environment, cores: float, background_cores: float = 0.0) -> None:
        self.env = env
        self.cores = max(cores - background_cores, 0.05 * cores)
        self.running = 0
        self.virtual = 0.0
        self.since = 0.0
        self.busy_core_s = 0.0
        self.done_core_s = self.background_core_s = 0.0
        self._heap: list[tuple[float, int, Task]] = []
        self._order = 0
        self._timer_at = float("inf")
        self._fire = self._on_timer
        self._inside_timer = False

    def start(self, task: Task) -> None:
        """As in `Host`."""
        now = self.env.now
        self._advance(now)
        self.running += 1
        self._order += 1
        task.mark = self.virtual
        heapq.heappush(self._heap, (self.virtual + task.slice_s, self._order, task))
        if not self._inside_timer:
            self._arm(now)

    def received_s(self, task: Task) -> float:
        """As in `Host`."""
        self._advance(self.env.now)
        return self.virtual - task.mark

    def drop(self, node: Process) -> list[Task]:
        """As in `Host`."""
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


class Pace:
    """The changing speed of one core: it is fast or slow for exponentially distributed times.

    `factor(now)`: seconds that a second of CPU at mean speed takes. `draws`: yields exponential draws of mean 1. See
    `sim.speed.CoreSpeed` for the rest.
    """

    __slots__ = ("_draws", "_factors", "_mean_s", "_slow", "_until_s")

    def __init__(self, slow: float, share: float, changes_per_s: float, draws: Iterator[float]) -> None:
        fast = 1.0 / (1.0 - share + share * slow)
        self._factors = (fast, fast * slow)
        self._mean_s = (1.0 / (changes_per_s * share), 1.0 / (changes_per_s * (1.0 - share)))
        self._draws = draws
        self._slow = False
        self._until_s = next(draws) * self._mean_s[0]

    def factor(self, now: float) -> float:
        """Return the factor at `now`, which must not decrease from call to call."""
        while self._until_s <= now:
            self._slow = not self._slow
            self._until_s += next(self._draws) * self._mean_s[self._slow]
        return self._factors[self._slow]


class Core:
    """One core: the task on it since `since_s` (s), with `left_s` of CPU to go then. `turn`: makes old timers void.

    `came_s`: when the task's process came onto it; its slice counts from there. `due_s`: when its timer fires.
    `queue`: tasks that wait for this core, for `CoreQueues`. `speed`: None: constant. `pace`: seconds that a second of CPU
    takes since `since_s`.
    """

    __slots__ = ("came_s", "due_s", "left_s", "number", "pace", "queue", "since_s", "speed", "task", "turn")

    def __init__(self, number: int, speed: Pace | None) -> None:
        self.number = number
        self.speed = speed
        self.pace = 1.0
        self.task: Task | None = None
        self.since_s = self.left_s = self.came_s = 0.0
        self.due_s = float("inf")
        self.turn = 0
        self.queue: deque[Task] = deque()


class RunQueue:
    """c cores and one queue of tasks that wait for a core.

    A process runs until it has nothing to do: an event loop works off its queue without leaving the core between
    two tasks.
    `background`: yields (pause s, CPU s) of the next background task; None: there are none. `paces`: the speed of each
    core; none: constant.
    """

    def __init__(self, env: simpy.Environment, cores: int, slice_s: float,
                 background: Iterator[tuple[float, float]] | None = None, paces: Sequence[Pace] = ()) -> None:
        self.env, self.slice_s = env, slice_s
        self.cores = float(cores)
        self.busy_core_s = self.done_core_s = self.background_core_s = 0.0
        self._cores = [Core(number, paces[number] if paces else None) for number in range(int(cores))]
        self._ready: deque[Task] = deque()
        self._urgent: deque[Task] = deque()
        self._on_due = self._core_due
        self._finishing: tuple[Core, Process] | None = None
        self._background = background
        if background is not None:
            self._next_background(None)

    # ---- Host ----------------------------------------------------------------------------------------

    def start(self, task: Task) -> None:
        """As in `Host`."""
        task.mark = task.slice_s  # CPU that the slice still needs
        finishing = self._finishing
        if finishing is not None and finishing[1] is task.node and finishing[0].task is None:
            self._continue(finishing[0], task)
            return
        core = self._idle_core(task)
        if core is not None:
            self._put(core, task)
        elif task.node is not None and task.node.realtime:
            self._preempt_for(task)
        else:
            self._wait(task)

    def received_s(self, task: Task) -> float:
        """As in `Host`."""
        for core in self._cores:
            if core.task is task:
                return task.slice_s - core.left_s + (self.env.now - core.since_s) / core.pace
        return task.slice_s - task.mark

    def drop(self, node: Process) -> list[Task]:
        """As in `Host`."""
        dropped = []
        for core in self._cores:
            task = core.task
            if task is not None and task.node is node:
                self._take_off(core)
                dropped.append(task)
        for queue in self._queues():
            waiting = [task for task in queue if task.node is node]
            for task in waiting:
                queue.remove(task)
            dropped += waiting
        for task in dropped:
            task.node = None
        for core in self._cores:
            if core.task is None:
                self._next(core)
        return dropped

    # ---- cores ---------------------------------------------------------------------------------------

    def _queues(self) -> list[deque[Task]]:
        return [self._ready, self._urgent]

    def _idle_core(self, task: Task) -> Core | None:
        urgent = task.node is not None and task.node.realtime
        taken = self._finishing[0] if self._finishing is not None and self._ready and not urgent else None
        for core in self._cores:
            if core.task is None and core is not taken:  # its next task is the one that has waited longest
                return core
        return None

    def _continue(self, core: Core, task: Task) -> None:
        """Let the process that has just finished a task start its next one, within the same slice."""
        if self._waits(core) and self.env.now - core.came_s >= self.slice_s - 1e-9:
            self._requeue(core, task)
        else:
            self._put(core, task, core.came_s)

    def _put(self, core: Core, task: Task, came_s: float | None = None) -> None:
        now = self.env.now
        core.task, core.since_s, core.left_s = task, now, task.mark
        core.came_s = now if came_s is None else came_s
        if core.speed is not None:
            core.pace = core.speed.factor(now)
        wait_s = task.mark * core.pace
        self._arm(core, min(wait_s, self._hand_over_s(core) - now) if self._waits(core) else wait_s)

    def _hand_over_s(self, core: Core) -> float:
        """Return when the core may change hands."""
        return max(self.env.now, core.came_s + self.slice_s)

    def _ordinary(self) -> list[Core]:
        """Return the cores with a process that is not real-time."""
        return [core for core in self._cores if core.task is not None and (core.task.node is None or not core.task.node.realtime)]

    def _arm(self, core: Core, wait_s: float) -> None:
        core.turn += 1
        core.due_s = self.env.now + wait_s
        call_after(self.env, wait_s, self._on_due, (core, core.turn))

    def _waits(self, _core: Core) -> bool:
        return bool(self._ready)

    def _wait(self, task: Task) -> None:
        """Queue a task; a core whose task runs on for longer than its slice must look up at the slice's end."""
        self._ready.append(task)
        self._limit_slices(self._cores)

    def _limit_slices(self, cores: list[Core]) -> None:
        now = self.env.now
        for core in cores:
            ends_s = self._hand_over_s(core)
            if core.due_s > ends_s + 1e-12:
                self._arm(core, ends_s - now)

    def _preempt_for(self, task: Task) -> None:
        """Put a real-time task on the core of the ordinary task that came onto it first."""
        ordinary = self._ordinary()
        if not ordinary:
            self._urgent.append(task)
            return
        core = min(ordinary, key=lambda one: one.came_s)
        displaced = core.task
        assert displaced is not None
        self._take_off(core)
        self._first(core, displaced)
        self._put(core, task)

    def _first(self, _core: Core, task: Task) -> None:
        self._ready.appendleft(task)

    def _take_off(self, core: Core) -> None:
        """Stop the core's task; `mark` keeps what it still needs."""
        task = core.task
        assert task is not None
        now = self.env.now
        ran_s = (now - core.since_s) / core.pace
        task.mark = max(core.left_s - ran_s, 0.0)
        self.busy_core_s += ran_s
        if task.node is None:
            self.background_core_s += ran_s
        core.task = None
        core.turn += 1
        core.due_s = float("inf")

    def _core_due(self, event: Any) -> None:
        core, turn = event._value
        if turn != core.turn:
            return
        task = core.task
        self._take_off(core)
        if task.mark > 1e-12:
            if self._waits(core):
                self._requeue(core, task)
                self._next(core)
            else:
                self._put(core, task)
            return
        self.done_core_s += task.slice_s
        node = task.node
        if node is not None:
            self._finishing = (core, node)
            node.finished(task)
            self._finishing = None
        if core.task is None:
            self._next(core)

    def _requeue(self, _core: Core, task: Task) -> None:
        self._ready.append(task)

    def _next(self, core: Core) -> None:
        """Give an idle core the task that has waited longest; a real-time one first."""
        if self._urgent:
            self._put(core, self._urgent.popleft())
        elif self._ready:
            self._put(core, self._ready.popleft())

    # ---- background ----------------------------------------------------------------------------------

    def _next_background(self, event: Any) -> None:
        assert self._background is not None
        pause_s, demand_s = next(self._background)
        if event is not None:
            self.start(event._value)
        call_after(self.env, pause_s, self._next_background, Task(None, None, demand_s, 0.0))


class CoreQueues(RunQueue):
    """A queue for each core: a task that wakes takes an idle core, else it waits for the core it used last.

    An idle core takes a waiting task of another core once it has been idle for `pull_after_s`.
    """

    def __init__(self, env: simpy.Environment, cores: int, slice_s: float, pull_after_s: float,
                 background: Iterator[tuple[float, float]] | None = None) -> None:
        self.pull_after_s = pull_after_s
        self._last_core: dict[Any, int] = {}
        super().__init__(env, cores, slice_s, background)

    def _queues(self) -> list[deque[Task]]:
        return [self._urgent, *(core.queue for core in self._cores)]

    def _idle_core(self, task: Task) -> Core | None:
        urgent = task.node is not None and task.node.realtime
        taken = self._finishing[0] if self._finishing is not None and not urgent else None
        last = self._cores[self._last_core.get(task.node, 0)]
        for core in (last, *self._cores):
            if core.task is None and not (core is taken and core.queue):
                return core
        return None

    def _put(self, core: Core, task: Task, came_s: float | None = None) -> None:
        self._last_core[task.node] = core.number
        super()._put(core, task, came_s)

    def _waits(self, core: Core) -> bool:
        return bool(core.queue)

    def _wait(self, task: Task) -> None:
        core = self._cores[self._last_core.get(task.node, 0)]
        core.queue.append(task)
        self._limit_slices([core])

    def _first(self, core: Core, task: Task) -> None:
        core.queue.appendleft(task)

    def _requeue(self, core: Core, task: Task) -> None:
        core.queue.append(task)

    def _next(self, core: Core) -> None:
        if self._urgent:
            self._put(core, self._urgent.popleft())
        elif core.queue:
            self._put(core, core.queue.popleft())
        elif any(one.queue for one in self._cores):  # whoever wakes from now on takes the idle core itself
            call_after(self.env, self.pull_after_s, self._pull, (core, core.turn))

    def _pull(self, event: Any) -> None:
        core, turn = event._value
        if core.turn != turn or core.task is not None:
            return
        longest = max(self._cores, key=lambda one: len(one.queue))
        if longest.queue:
            self._put(core, longest.queue.popleft())
