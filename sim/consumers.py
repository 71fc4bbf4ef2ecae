"""Consumer groups on an engine: the poll loop of each, and how it handles an event or a batch."""

from __future__ import annotations

from sim.engine import Engine
from sim.jobs import Context, Job
from sim.program import Consumer, flatten
from sim.queues import BatchLoop, PollLoop

PAUSE_S = 0.5
"""Seconds until a consumer retries a failed event; offsets are committed only after the effect."""


def consume(engine: Engine, consumer: Consumer, gather_s: float = 0.0) -> PollLoop:
    """Add a consumer group and return its poll loop. A failed event is retried until it succeeds.

    `gather_s`: for a group that handles a poll as one batch, how long its events are gathered under load.
    """
    codes = {topic: engine.link(flatten(body)) for topic, body in consumer.bodies}
    draw = engine.bound(engine.bindings.delays, consumer.poll_delay, "delay").__next__

    def ended(job: Job, status: int) -> None:
        if status:
            loop.again(job.ctx, PAUSE_S)
        else:
            loop.done(job.ctx)

    def handle(ctx: Context) -> None:
        engine.start(codes[ctx.topic], ctx, ended)

    def bundle(events: list[Context]) -> Context:
        """Return one context for all events of a poll; `page`: the distinct ids that they concern."""
        batch = Context(0, "batch", 0, 0, engine.env.now)
        batch.topic, batch.batch = events[0].topic, tuple(events)
        batch.page = tuple(dict.fromkeys(one.tweet or one.target for one in events))
        return batch

    loop: PollLoop
    if consumer.batch:
        loop = BatchLoop(engine.env, draw, handle, bundle, gather_s)
    else:
        loop = PollLoop(engine.env, draw, handle, consumer.lanes)
    for topic in codes:
        engine.groups.setdefault(topic, []).append(loop)
    return loop
