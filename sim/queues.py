"""Stations that hold no CPU: pools of places, and the poll loops of consumer groups.

**A pool** is a bounded number of places; a policy decides who may wait for one. **A poll loop** is a member of a consumer group:
it takes what waits in its topics, in order within a key, and polls again when all of it is done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import simpy

from sim.stations import Resume, call_after


class Pool:
    """`places` in all. `admits(running, waiting)` decides who may wait when none is free; None: everybody."""

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
        """It is the same pool for every job."""
        return self

    left = entered

    def acquire(self, job: Any) -> bool | None:
        """True: taken now. False: waits, and is resumed with the place. None: refused."""
        if self.free > 0:
            self.free -= 1
            return True
        if self.admits is not None and not self.admits(self.places - self.free, len(self.queue)):
            self.refused += 1
            return None
        self.queue.append(job)
        return False

    def release(self, _status: int = 0) -> None:
        """Give a place back; the first in the queue gets it at once."""
        while self.queue:
            job = self.queue.popleft()
            if not job.gone:
                call_after(self.env, 0.0, lambda event: self.resume(event.value), job)
                return
        self.free += 1


class PollLoop:
    """One member of a consumer group: polls everything that waits, does it, commits, polls again.

    Events of one poll run at the same time where their keys differ (`lanes` at most), in their order within a key. An
    idle loop sees a new event `poll_s()` later (a long poll that wakes); the next poll starts when the last event of this one
    is done. `inside`: event -> key of those in hand.
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
        """Events not yet done."""
        return len(self.waiting) + len(self.inside) + sum(len(queue) for queue in self.queues)

    def append(self, key: int, event: Any) -> None:
        """Add one event to the topic."""
        self.waiting.append((key, event))
        self._wake()

    def done(self, event: Any) -> None:
        """An event in hand is finished."""
        queue = self.inside.pop(event, None)
        if queue is None:
            return
        if queue:
            self.queues.append(queue)
        self._launch()

    def again(self, event: Any, pause_s: float) -> None:
        """An event in hand failed: it is tried again after a pause, before the others of its key."""
        if event in self.inside and not self.stopped:
            call_after(self.env, pause_s, lambda _: self.handle(event) if event in self.inside else None)

    def stop(self) -> None:
        """The consumer died: nothing of the poll in hand was committed, so all of it waits again."""
        self.stopped = True
        self.busy = False
        for event, queue in self.inside.items():
            self.waiting.extendleft((0, one) for one in (*reversed(queue), event))
        for queue in self.queues:
            self.waiting.extendleft((0, one) for one in reversed(queue))
        self.inside.clear()
        self.queues.clear()

    def resume(self) -> None:
        """The consumer is back."""
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
    """A member that does all events of a poll in one go, and gathers them under load.

    Where the poll before was answered less than `gather_s` ago, it waits until then and takes what came meanwhile, as
    system/services/shared/consumer_loop.py does; after a calm it begins at once. `handle(batch)` gets what `bundle(events)` made.
    """

    def __init__(
        self, env: simpy.Environment, poll_s: Callable[[], float], handle: Callable[[Any], None],
        bundle: Callable[[list[Any]], Any], gather_s: float,
    ) -> None:  # fmt: skip
        super().__init__(env, poll_s, handle, 1)
        self.gather_s = gather_s
        self._bundle = bundle
        self._answered_s = float("-inf")
        self._parts: list[Any] = []

    def _polled(self, event: Any) -> None:
        wait_s = self._answered_s + self.gather_s - self.env.now
        if wait_s > 1e-9 and not self.stopped:
            call_after(self.env, wait_s, self._gathered)
        else:
            self._gathered(event)

    def _gathered(self, _event: Any) -> None:
        if self.stopped or self.inside:
            return
        self._answered_s = self.env.now
        taken = [event for _, event in self.waiting]
        self.waiting.clear()
        if not taken:
            self.busy = False
            return
        batch = self._bundle(taken)
        self.inside[batch] = deque()
        self._parts = taken
        self.handle(batch)

    def stop(self) -> None:
        """The consumer died: all events of the batch in hand wait again."""
        if self.inside:
            self.inside.clear()
            self.waiting.extendleft((0, event) for event in reversed(self._parts))
        super().stop()
