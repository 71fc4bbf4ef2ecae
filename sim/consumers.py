"""Consumer groups on an engine: the poll loop of each, and how it handles an event or a batch."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

from sim.engine import Engine
from sim.jobs import Context, Job
from sim.program import Consumer, Step
from sim.queues import PAUSE_NS, Around, PollLoop
from sim.streams import Law, key_of, mixed, ns, uniform


class Group:
    """One consumer group: draws the delays of its polls and makes the contexts of its batches."""

    def __init__(self, engine: Engine, consumer: Consumer, seed: int) -> None:
        self.engine, self.key, self.polls, self.batches = engine, key_of(seed, f"group {consumer.group}"), 0, 0
        self._delay: Law = engine.bindings.delays[consumer.poll_delay]

    def poll_ns(self) -> int:
        """Return how long the next poll of an idle loop takes."""
        self.polls += 1
        return ns(self._delay(uniform(self.key, self.polls - 1)))

    def bundle(self, events: list[Context]) -> Context:
        """Return one context for all events of a poll; `page`: the distinct ids that they concern."""
        self.batches += 1
        batch = Context(0, "batch", 0, 0, self.engine.env.now, mixed(mixed(self.key, 1 << 40), self.batches - 1))
        batch.topic, batch.batch, batch.at = events[0].topic, tuple(events), events[0].at
        batch.page = tuple(dict.fromkeys(one.tweet or one.target for one in events))
        return batch

    def around(self, steps: tuple[Step, ...]) -> Around | None:
        """Return what runs `steps` for the events of a poll, again after a pause where they fail."""
        if not steps:
            return None
        self.engine.link(steps)

        def run(events: list[Context]) -> Generator[simpy.Event, Any, None]:
            while True:
                ctx = self.bundle(events)
                if not (yield self.engine.env.process(self.engine.run(Job(ctx, ctx.key), steps))):
                    return
                yield self.engine.env.timeout(PAUSE_NS)

        return run


def consume(engine: Engine, consumer: Consumer, seed: int, gather_ns: int = 0) -> PollLoop:
    """Add a consumer group and return its poll loop. A failed event is retried until it succeeds.

    `gather_ns`: how long events are gathered under load.
    """
    bodies = {topic: engine.link(body) for topic, body in consumer.bodies}
    group = Group(engine, consumer, seed)

    def handle(ctx: Context) -> Generator[simpy.Event, Any, int]:
        ctx.attempt += 1
        return engine.run(Job(ctx, mixed(ctx.key, ctx.attempt)), bodies[ctx.topic])

    loop = PollLoop(
        engine.env, group.poll_ns, handle, consumer.lanes, gather_ns=gather_ns,
        bundle=group.bundle if consumer.batch else None, begin=group.around(consumer.begin), commit=group.around(consumer.commit),
    )  # fmt: skip
    for topic in bodies:
        engine.groups.setdefault(topic, []).append(loop)
    return loop
