"""Stations without CPU: pools of slots, and the poll loops of consumer groups.

**A pool** is a bounded number of slots; a policy decides which jobs may wait for one. **A poll loop** is a
member of a consumer group: it takes all pending events of its topics, in order within a key, and polls again
when they are done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import simpy

from sim.stations import Resume, call_after


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

    Events of one poll with different keys run concurrently (`lanes` at most), in order within a key. An idle
    loop sees a new event `poll_s()` later (a long poll that returns); the next poll starts when the last
    event of this one is done. `inside`: event in progress -> queue of its key.
    """

    def __init__(
        self, env: simpy.Environment, poll_s: Callable[[], float], handle: Callable[[Any], None], lanes: int
    ) -> None:
        self.env = env
        self.poll_s = poll_s
        self.handle = handle
        self.lanes = lanes
        self.waiting: deque[tuple[int, Any]] = deque()
        self.queues: deque[deque[Any]] = deque()
        self.inside: dict[Any, deque[Any]] = {}
        self.busy = False
        self.stopped = False

    @property
    def lag(self) -> int:
        """Return the number of events that are not done."""
        return len(self.waiting) + len(self.inside) + sum(len(queue) for queue in self.queues)

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
        for event, queue in self.inside.items():
            self.waiting.extendleft((0, one) for one in (*reversed(queue), event))
        for queue in self.queues:
            self.waiting.extendleft((0, one) for one in reversed(queue))
        self.inside.clear()
        self.queues.clear()

    def resume(self) -> None:
        """Restart the consumer."""
        self.stopped = False
        self._wake()

    def _wake(self) -> None:
        if not self.busy and not self.stopped and self.waiting:
            self.busy = True
            call_after(self.env, self.poll_s(), self._polled)

    def _polled(self, _event: Any) -> None:
        if self.stopped:
            return
        by_key: dict[int, deque[Any]] = {}
        while self.waiting:
            key, event = self.waiting.popleft()
            by_key.setdefault(key, deque()).append(event)
        self.queues.extend(by_key.values())
        self._launch()

    def _launch(self) -> None:
        while self.queues and len(self.inside) < self.lanes:
            queue = self.queues.popleft()
            event = queue.popleft()
            self.inside[event] = queue
            self.handle(event)
        if not self.inside and not self.queues and not self.stopped:
            self.busy = False
            if self.waiting:
                self.busy = True
                call_after(self.env, 0.0, self._polled)


class BatchLoop(PollLoop):
    """A member that handles all events of a poll as one batch, and gathers them under load.

    If the previous poll returned less than `gather_s` ago, it waits until then and includes events that
    arrived since, as system/services/shared/consumer_loop.py does; otherwise it starts immediately.
    `handle(batch)`: of `bundle(events)`.
    """

    def __init__(
        self, env: simpy.Environment, poll_s: Callable[[], float], handle: Callable[[Any], None],
        bundle: Callable[[list[Any]], Any], gather_s: float,
    ) -> None:  # fmt: skip
        super().__init__(env, poll_s, handle, 1)
        self.gather_s = gather_s
        self._bundle = bundle
        self._last_poll_s = float("-inf")
        self._parts: list[Any] = []

    def _polled(self, event: Any) -> None:
        wait_s = self._last_poll_s + self.gather_s - self.env.now
        if wait_s > 1e-9 and not self.stopped:
            call_after(self.env, wait_s, self._gathered)
        else:
            self._gathered(event)

    def _gathered(self, _event: Any) -> None:
        if self.stopped or self.inside:
            return
        self._last_poll_s = self.env.now
        events = [event for _, event in self.waiting]
        self.waiting.clear()
        if not events:
            self.busy = False
            return
        batch = self._bundle(events)
        self.inside[batch] = deque()
        self._parts = events
        self.handle(batch)

    def stop(self) -> None:
        """Stop the consumer: all events of the current batch are pending again."""
        if self.inside:
            self.inside.clear()
            self.waiting.extendleft((0, event) for event in reversed(self._parts))
        super().stop()
