"""Two other CPU disciplines, to compare the run queue of `sim.resources.Host` with.

| discipline | who runs |
|---|---|
| `ProcessorSharing` | n tasks on c cores run at rate min(1, c / n) each: the ideal that a fair scheduler approximates |
| `CoreQueues` | a run queue for each core; an idle core takes a task of another only after a while |

`docs/decisions/0016-cpu-discipline.md` has the stress test that chose the run queue. For sharing there is exact theory,
against which the engines are tested.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

from sim.clock import Environment, call_after
from sim.resources import SLICE_NS, Core, Host, Process, Task

UNIT = 1024
"""Virtual time is counted in parts of a nanosecond, speed in thousandths of a core: whole numbers, so that both engines agree."""


class ProcessorSharing(Host):
    """The cores, shared evenly: O(log n) an event by virtual time.

    v grows at the common rate, a task that needs d ns of CPU and starts at v0 ends at v0 + d, and a heap
    orders the completions. A change of n only changes the slope of v. `background_cores`: taken away for good.
    """

    def __init__(self, env: Environment, cores: int, background_cores: float = 0.0) -> None:
        super().__init__(env, cores)
        self.speed = round(1000 * max(cores - background_cores, 0.05 * cores))
        self._virtual = self._since_ns = self._turn = self._started = 0
        self._heap: list[tuple[int, int, Task]] = []

    def start(self, task: Task) -> None:
        """As in `Host`."""
        self._advance()
        self._started += 1
        heapq.heappush(self._heap, (self._virtual + UNIT * task.slice_ns, self._started, task))
        self._set_next()

    def received_ns(self, task: Task) -> int:
        """As in `Host`."""
        self._advance()
        ends = next(end for end, _, one in self._heap if one is task)
        return task.slice_ns - (ends - self._virtual) // UNIT

    def drop(self, process: Process) -> list[Task]:
        """As in `Host`."""
        self._advance()
        dropped = [task for _, _, task in sorted(self._heap, key=lambda row: row[:2]) if task.process is process]
        self._heap = [row for row in self._heap if row[2].process is not process]
        heapq.heapify(self._heap)
        self._set_next()
        return dropped

    def _advance(self) -> None:
        elapsed, self._since_ns, n = self.env.now - self._since_ns, self.env.now, len(self._heap)
        gained = elapsed * UNIT if 1000 * n <= self.speed else elapsed * UNIT * self.speed // (1000 * n)
        self._virtual += gained
        self.busy_ns += gained * n // UNIT

    def _set_next(self) -> None:
        """Set the timer for the next completion."""
        self._turn += 1
        if self._heap:
            left, n = max(self._heap[0][0] - self._virtual, 0), len(self._heap)
            wait_ns = -(-left // UNIT) if 1000 * n <= self.speed else -(-left * 1000 * n // (UNIT * self.speed))
            call_after(self.env, wait_ns, self._ends, self._turn)

    def _ends(self, event: Any) -> None:
        if event.value != self._turn:
            return
        self._advance()
        while self._heap and self._heap[0][0] <= self._virtual + UNIT // 2:
            task = heapq.heappop(self._heap)[2]
            self.done_ns += task.slice_ns
            if task.process is not None:
                task.process.finished(task)
        self._set_next()


class CoreQueues(Host):
    """A queue for each core: a task that wakes takes an idle core, else it waits for the core it used last.

    An idle core takes a waiting task of another core once it has been idle for `pull_after_ns`.
    """

    def __init__(self, env: Environment, cores: int, slice_ns: int = SLICE_NS, pull_after_ns: int = 0) -> None:
        super().__init__(env, cores, slice_ns)
        self.pull_after_ns = pull_after_ns
        for core in self.cores:
            core.queue = deque()
        self._last_core: dict[Process | None, Core] = {}

    def _preferred(self, process: Process | None) -> list[Core]:
        return [self._last_core.get(process, self.cores[0]), *self.cores]

    def _wait(self, task: Task) -> None:
        core = self._last_core.get(task.process, self.cores[0])
        core.queue.append(task)
        self._limit_slices([core])

    def _put(self, core: Core, task: Task, came_ns: int) -> None:
        self._last_core[task.process] = core
        super()._put(core, task, came_ns)

    def _next(self, core: Core) -> None:
        super()._next(core)
        if core.task is None and any(one.queue for one in self.cores):  # whoever wakes from now on takes the idle core itself
            call_after(self.env, self.pull_after_ns, self._pull, (core, core.turn))

    def _pull(self, event: Any) -> None:
        core, turn = event.value
        longest = max((one.queue for one in self.cores), key=len)
        if core.turn == turn and core.task is None and longest:
            self._put(core, longest.popleft(), self.env.now)
