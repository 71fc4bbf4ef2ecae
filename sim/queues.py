"""Stations without CPU: pools of slots, poll loops of consumer groups, and devices that make writes durable.

**A pool** is a bounded number of slots; a policy decides which jobs may wait for one. **A poll loop** is a
member of a consumer group: it takes all pending events of its topics, in order within a key, and polls again
when they are done. **A group commit** flushes all writes that wait for it at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import simpy

from sim.host import call_after
from sim.stations import Resume

Around = Callable[[list[Any], Callable[[], None]], None]
"""Work around the events of a poll: (events, what to call when it is done)."""


class Pool:
    """`places` slots.

    `admits(running, waiting)` decides whether a job may wait when none is free; None: always.
    """

    def __init__(
        self, env: simpy.Environment, name: str, places: int, admits: Callable[[int, int], bool] | None, resume: Resume
    ) -> None:
        self.env = env
        self.name = name
        self.places = places
        self.free = places
        self.admits = admits
        self.resume = resume
        self.queue: deque[Any] = deque()
        self.refused = 0

    def entered(self, _job: Any) -> Pool:
        """Return this pool, for every job."""
        return self

    left = entered

    def acquire(self, job: Any) -> bool | None:
        """Take a slot. True: taken. False: waiting, resumed with the slot. None: refused."""
        if self.free > 0:
            self.free -= 1
            return True
        if self.admits is not None and not self.admits(self.places - self.free, len(self.queue)):
            self.refused += 1
            return None
        self.queue.append(job)
        return False

    def release(self, _status: int = 0) -> None:
        """Release a slot; the first waiting job gets it immediately."""
        while self.queue:
            job = self.queue.popleft()
            if not job.gone:
                call_after(self.env, 0.0, lambda event: self.resume(event.value), job)
                return
        self.free += 1


class PollLoop:
    """One member of a consumer group: polls all pending events, handles them, commits, polls again.

    Events of one poll with different keys run concurrently (`lanes` at most), in order within a key; with
    `bundle`, all events of a poll are handled as one batch. An idle loop sees a new event `poll_s()` later (a
    long poll that returns). A poll that returns less than `gather_s` after the previous one waits until then
    and includes what arrived since, as system/services/shared/consumer_loop.py does.

    `begin(events, then)`, `commit(events, then)`: run the work of a poll before and after its events and call
    `then()`; None: there is none. `inside`: event in progress -> queue of its key.
    """

    def __init__(
        self, env: simpy.Environment, poll_s: Callable[[], float], handle: Callable[[Any], None], lanes: int, *,
        gather_s: float = 0.0, bundle: Callable[[list[Any]], Any] | None = None,
        begin: Around | None = None, commit: Around | None = None,
    ) -> None:  # fmt: skip
        self.env = env
        self.poll_s = poll_s
        self.handle = handle
        self.lanes = lanes
        self.gather_s = gather_s
        self.waiting: deque[tuple[int, Any]] = deque()
        self.queues: deque[deque[Any]] = deque()
        self.inside: dict[Any, deque[Any]] = {}
        self.busy = False
        self.stopped = False
        self._bundle, self._begin, self._commit = bundle, begin, commit
        self._last_poll_s = float("-inf")
        self._polled_events: list[tuple[int, Any]] = []
        self._life = 0  # counts stops: what was started before one is void

    @property
    def lag(self) -> int:
        """Return the number of events that are not done."""
        return len(self.waiting) + len(self._polled_events)

    def append(self, key: int, event: Any) -> None:
        """Add one event to the topic."""
        self.waiting.append((key, event))
        self._wake()

    def done(self, event: Any) -> None:
        """Record that an event is done."""
        queue = self.inside.pop(event, None)
        if queue is None:
            return
        if queue:
            self.queues.append(queue)
        self._launch()

    def again(self, event: Any, pause_s: float) -> None:
        """Retry a failed event after a pause, before the others of its key."""
        if event in self.inside and not self.stopped:
            call_after(self.env, pause_s, lambda _: self.handle(event) if event in self.inside else None)

    def stop(self) -> None:
        """Stop the consumer: nothing of the current poll was committed, so all of it is pending again."""
        self.stopped = True
        self.busy = False
        self._life += 1
        self.waiting.extendleft(reversed(self._polled_events))
        self._polled_events = []
        self.inside.clear()
        self.queues.clear()

    def resume(self) -> None:
        """Restart the consumer."""
        self.stopped = False
        self._wake()

    def _wake(self) -> None:
        if not self.busy and not self.stopped and self.waiting:
            self.busy = True
            self._after(self.poll_s(), self._returned)

    def _after(self, seconds: float, function: Callable[[], None]) -> None:
        life = self._life
        call_after(self.env, seconds, lambda _: function() if life == self._life else None)

    def _returned(self) -> None:
        wait_s = self._last_poll_s + self.gather_s - self.env.now
        if wait_s > 1e-9:
            self._after(wait_s, self._gathered)
        else:
            self._gathered()

    def _gathered(self) -> None:
        self._last_poll_s = self.env.now
        self._polled_events = list(self.waiting)
        self.waiting.clear()
        self._around(self._begin, self._begun)

    def _around(self, work: Around | None, then: Callable[[], None]) -> None:
        if work is None:
            then()
            return
        life = self._life
        work([event for _, event in self._polled_events], lambda: then() if life == self._life else None)

    def _begun(self) -> None:
        events = self._polled_events
        if self._bundle is not None:
            self.queues.append(deque([self._bundle([event for _, event in events])]))
        else:
            by_key: dict[int, deque[Any]] = {}
            for key, event in events:
                by_key.setdefault(key, deque()).append(event)
            self.queues.extend(by_key.values())
        self._launch()

    def _launch(self) -> None:
        while self.queues and len(self.inside) < self.lanes:
            queue = self.queues.popleft()
            event = queue.popleft()
            self.inside[event] = queue
            self.handle(event)
        if not self.inside and not self.queues and self._polled_events and not self.stopped:
            events, self._polled_events = self._polled_events, []
            if self._commit is None:
                self._committed()
            else:
                life = self._life
                self._commit([event for _, event in events], lambda: self._committed() if life == self._life else None)

    def _committed(self) -> None:
        self.busy = False
        if self.waiting:
            self.busy = True
            self._after(0.0, self._returned)


class GroupCommit:
    """A device that makes writes durable: one flush at a time, and a flush covers all writes that wait for it.

    `draw()`: seconds of one flush. `resume(job)`: called when a job's write is durable.
    """

    def __init__(self, env: simpy.Environment, draw: Callable[[], float], resume: Resume) -> None:
        self.env, self._draw, self._resume = env, draw, resume
        self._waiting: list[Any] = []
        self._flushing: list[Any] = []

    def flush(self, job: Any) -> None:
        """Make the write of `job` durable."""
        self._waiting.append(job)
        if not self._flushing:
            self._start()

    def _start(self) -> None:
        self._flushing, self._waiting = self._waiting, []
        call_after(self.env, self._draw(), self._ended)

    def _ended(self, _event: Any) -> None:
        done, self._flushing = self._flushing, []
        if self._waiting:
            self._start()
        for job in done:
            self._resume(job)
