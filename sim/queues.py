"""Queues of the model besides pools: poll loops of consumers, and logs on disk.

**A poll loop** is a member of a consumer group: it takes all pending events of its topics, in order within a key, and
polls again when they are done. **A group commit** flushes all writes that wait for it at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

import simpy

from sim.clock import Environment, call_after
from sim.streams import ns

Around = Callable[[list[Any]], Generator[simpy.Event, Any, None]]
"""Work for all events of a poll, as a generator of SimPy events."""

PAUSE_NS = 500_000_000
"""Nanoseconds until a consumer retries a failed event; offsets are committed only after the effect."""


class PollLoop:
    """One member of a consumer group: polls all pending events, handles them, commits, polls again.

    Events of one poll with different keys run concurrently (`lanes` at most), in order within a key; with
    `bundle`, all events of a poll are handled as one batch. An idle loop sees a new event `poll_ns()` later (a
    long poll that returns). A poll that returns less than `gather_ns` after the previous one waits until then
    and includes what arrived since, as system/services/shared/consumer_loop.py does.

    `handle(event)`: a generator that handles one event and returns its status (0: success); a failed event is handled
    again after a pause, before the others of its key. `begin(events)`, `commit(events)`: the work of a poll before and
    after its events; None: there is none.
    """

    def __init__(
        self, env: Environment, poll_ns: Callable[[], int], handle: Callable[[Any], Generator[simpy.Event, Any, int]],
        lanes: int, *, gather_ns: int = 0, bundle: Callable[[list[Any]], Any] | None = None,
        begin: Around | None = None, commit: Around | None = None,
    ) -> None:  # fmt: skip
        self.env, self.poll_ns, self.handle, self.lanes, self.gather_ns = env, poll_ns, handle, lanes, gather_ns
        self._bundle, self._begin, self._commit = bundle, begin, commit
        self.waiting: deque[tuple[int, Any]] = deque()
        self.stopped = False
        self._polled: list[tuple[int, Any]] = []
        self._lanes: list[simpy.Process] = []
        self._wake = env.event()
        self._last_poll_ns: int | None = None
        self._process = env.process(self._run())

    @property
    def lag(self) -> int:
        """Return the number of events that are not done."""
        return len(self.waiting) + len(self._polled)

    def append(self, key: int, event: Any) -> None:
        """Add one event to the topic."""
        self.waiting.append((key, event))
        if not self.stopped and not self._wake.triggered:
            self._wake.succeed()

    def stop(self) -> None:
        """Stop the consumer: nothing of the current poll was committed, so all of it is pending again."""
        if self.stopped:
            return
        self.stopped = True
        self._process.interrupt()
        for lane in self._lanes:
            if lane.is_alive:
                lane.interrupt()

    def resume(self) -> None:
        """Restart the consumer."""
        self.stopped = False
        if not self._wake.triggered:
            self._wake.succeed()

    def _run(self) -> Generator[simpy.Event, Any, None]:
        idle = True
        while True:
            try:
                if not self.waiting:
                    idle, self._wake = True, self.env.event()
                    yield self._wake
                if idle:
                    yield self.env.timeout(self.poll_ns())
                idle = False
                yield from self._poll()
            except simpy.Interrupt:
                self.waiting.extendleft(reversed(self._polled))
                self._polled = []
                idle = True
                if self.stopped:
                    self._wake = self.env.event()
                    yield self._wake

    def _poll(self) -> Generator[simpy.Event, Any, None]:
        if self._last_poll_ns is not None and self._last_poll_ns + self.gather_ns > self.env.now:
            yield self.env.timeout(self._last_poll_ns + self.gather_ns - self.env.now)
        self._last_poll_ns = self.env.now
        self._polled = list(self.waiting)
        self.waiting.clear()
        events = [event for _, event in self._polled]
        if self._begin is not None:
            yield from self._begin(events)
        slots = simpy.Resource(self.env, self.lanes)
        self._lanes = [self.env.process(self._lane(slots, queue)) for queue in self._queues(events)]
        yield self.env.all_of(self._lanes)
        self._polled = []
        if self._commit is not None:
            yield from self._commit(events)

    def _queues(self, events: list[Any]) -> list[list[Any]]:
        if self._bundle is not None:
            return [[self._bundle(events)]]
        by_key: dict[int, list[Any]] = {}
        for key, event in self._polled:
            by_key.setdefault(key, []).append(event)
        return list(by_key.values())

    def _lane(self, slots: simpy.Resource, events: list[Any]) -> Generator[simpy.Event, Any, None]:
        try:
            with slots.request() as slot:
                yield slot
                for event in events:
                    while (yield self.env.process(self.handle(event))):
                        yield self.env.timeout(PAUSE_NS)
        except simpy.Interrupt:  # the process died; work that it has started elsewhere goes on
            return


class GroupCommit:
    """A device that makes writes durable: one flush at a time, and a flush covers all writes that wait for it.

    `flushes`: seconds of one flush after the other.
    """

    def __init__(self, env: Environment, flushes: Iterator[float]) -> None:
        self.env, self.flushes = env, flushes
        self._waiting: list[simpy.Event] = []
        self._flushing: list[simpy.Event] = []

    def flush(self) -> simpy.Event:
        """Return the event that succeeds when a write of now is durable."""
        durable = self.env.event()
        self._waiting.append(durable)
        if not self._flushing:
            self._start()
        return durable

    def _start(self) -> None:
        self._flushing, self._waiting = self._waiting, []
        call_after(self.env, ns(next(self.flushes)), self._ended)

    def _ended(self, _event: Any) -> None:
        done, self._flushing = self._flushing, []
        if self._waiting:
            self._start()
        for durable in done:
            durable.succeed()
