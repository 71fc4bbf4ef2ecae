"""Consumer groups on an engine: the poll loop of each, and how it handles an event or a batch."""

from __future__ import annotations

from collections.abc import Callable

from sim.engine import Engine
from sim.host import call_after
from sim.jobs import Context, Job
from sim.program import Consumer, Step, flatten
from sim.queues import Around, PollLoop

PAUSE_S = 0.5
"""Seconds until a consumer retries a failed event; offsets are committed only after the effect."""


def consume(engine: Engine, consumer: Consumer, gather_s: float = 0.0) -> PollLoop:
    """Add a consumer group and return its poll loop. A failed event is retried until it succeeds.

    `gather_s`: how long events are gathered under load.
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

    loop = PollLoop(
        engine.env, draw, handle, consumer.lanes, gather_s=gather_s,
        bundle=(lambda events: _bundle(engine, events)) if consumer.batch else None,
        begin=_around(engine, consumer.begin), commit=_around(engine, consumer.commit),
    )  # fmt: skip
    for topic in codes:
        engine.groups.setdefault(topic, []).append(loop)
    return loop


def _bundle(engine: Engine, events: list[Context]) -> Context:
    """Return one context for all events of a poll; `page`: the distinct ids that they concern."""
    batch = Context(0, "batch", 0, 0, engine.env.now)
    batch.topic, batch.batch, batch.at = events[0].topic, tuple(events), events[0].at
    batch.page = tuple(dict.fromkeys(one.tweet or one.target for one in events))
    return batch


def _around(engine: Engine, steps: tuple[Step, ...]) -> Around | None:
    """Return what runs `steps` for the events of a poll, again after a pause where they fail."""
    if not steps:
        return None
    code = engine.link(flatten(steps))

    def run(events: list[Context], then: Callable[[], None]) -> None:
        def ended(_job: Job, status: int) -> None:
            if status:
                call_after(engine.env, PAUSE_S, lambda _: run(events, then))
            else:
                then()

        engine.start(code, _bundle(engine, events), ended)

    return run
