"""The reference engine: the model as SimPy processes.

A request is a SimPy process. `Engine.walk` is the generator that it runs: one `case` for each kind of step of its
program (`sim/program.py`). What the steps wait for are the resources of `sim/resources.py`. A step that fails raises
`Failed`; the `Call` around it may retry. `docs/how-to/read-the-model.md` reads both modules with you.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import simpy

from sim.clock import Environment
from sim.jobs import GATEWAY_TIMEOUT, Bindings, Context, Job
from sim.program import (
    Acquire,
    Branch,
    Call,
    Cpu,
    Delay,
    Each,
    Effect,
    Fail,
    Flush,
    Loop,
    Once,
    Parallel,
    Publish,
    Release,
    Step,
    UnknownStep,
    names,
)  # fmt: skip
from sim.queues import PollLoop
from sim.resources import REFUSED, Failed, Host, Process, Wait
from sim.streams import NS, mixed, ns


class Engine:
    """Runs programs on a SimPy environment. `trace`: (time ns, key of the job, kind of step) of each step, if it is a list."""

    def __init__(self, cores: float, host: Callable[[Environment, int], Host] = Host) -> None:
        self.env = Environment(initial_time=0)
        self.host = host(self.env, int(cores))
        self.bindings = Bindings()
        self.groups: dict[str, list[PollLoop]] = {}
        self.flights: dict[Any, simpy.Event] = {}
        self.trace: list[tuple[int, int, str]] | None = None

    def node(self, name: str, width: int) -> Process:
        """Add a process: `width` 1 for an event loop or a single thread, 0 for any number of threads."""
        process = self.bindings.nodes[name] = Process(self.env, self.host, name, width)
        return process

    def link(self, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        """Return `steps`. Raises UnknownStep if they name something that is not bound."""
        for kind, table, name in names(steps):
            known = getattr(self.bindings, table)
            if name not in known:
                raise UnknownStep(f"No {kind} is named `{name}`; known: {', '.join(sorted(known)) or 'none'}.")
        return steps

    def run(self, job: Job, steps: tuple[Step, ...]) -> Generator[simpy.Event, Any, int]:
        """Walk `steps`, release what `job` still holds, and return its status: 0 if it reached the end."""
        status = 0
        try:
            yield from self.walk(job, steps)
        except Failed as failure:
            status = failure.status
        self._give_back(job, 0, status)
        return status

    def walk(self, job: Job, steps: tuple[Step, ...]) -> Wait:
        """Do the steps one after the other. Raises Failed with the status of the first that fails."""
        env, bound, ctx, trace = self.env, self.bindings, job.ctx, self.trace
        for step in steps:
            if trace is not None:
                trace.append((env.now, job.key, type(step).__name__))
            match step:
                case Cpu(node, unit, size, share):
                    if ctx.ended:
                        raise Failed(GATEWAY_TIMEOUT, final=True)  # the client has left: nothing new is started
                    process = bound.fleets[node].node_of(ctx) if node in bound.fleets else bound.nodes[node]
                    if process.down:
                        raise Failed(process.down_status)
                    cost = bound.units[f"{node}.{unit}"]
                    demand_s = cost.demand_s(env.now // NS, bound.sizes[size](job) if size else 0.0, share)
                    if demand_s > 0.0:
                        yield process.work(demand_s * cost.noise(job.draw()))
                case Delay(name):
                    law = bound.delays[name]
                    pause_ns = ns(law(job.draw()))
                    if pause_ns:
                        yield env.timeout(pause_ns)
                case Effect(name):
                    bound.effects[name](job)
                case Branch(when, then, otherwise):
                    yield from self.walk(job, then if bound.predicates[when](job) else otherwise)
                case Acquire(name):
                    pool = bound.pools[name].enter(ctx)
                    slot = pool.request()
                    if slot is not None:
                        yield from pool.wait(slot)
                    job.held.append(pool)
                case Release(name):
                    pool = bound.pools[name].held_by(ctx)
                    job.held.remove(pool)
                    pool.release()
                case Flush(device):
                    yield bound.devices[device].flush()
                case Call(target, body, idempotent):
                    yield from self._call(job, target, body, idempotent)
                case Each(items_of, body, need):
                    yield from self._together(job, [(body, item) for item in bound.items[items_of](job)], need)
                case Parallel(bodies, need):
                    yield from self._together(job, [(body, job.item) for body in bodies], need)
                case Loop(items_of, body):
                    for item in bound.items[items_of](job):
                        job.item = item
                        yield from self.walk(job, body)
                case Once(key, body):
                    yield from self._once(job, bound.keys[key](job), body)
                case Publish(topic):
                    self.append(topic, bound.events[topic](job), job.fork())
                case Fail(status):
                    raise Failed(status)
                case _:
                    raise UnknownStep(f"{step!r} is not a step that this engine knows.")

    def _call(self, job: Job, target: str, body: tuple[Step, ...], idempotent: bool) -> Wait:
        """Call a dependency: refused while its breaker is open, retried by its schedule."""
        guard, attempt = self.bindings.guards[target], 1
        while True:
            if not guard.admit(self.env.now / NS, attempt):
                raise Failed(REFUSED)
            held = len(job.held)
            try:
                yield from self.walk(job, body)
                guard.succeeded(self.env.now / NS)
                return
            except Failed as failure:
                if failure.final:
                    raise
                pause_s = guard.failed(self.env.now / NS, attempt, idempotent, failure.status, job.draw)
                self._give_back(job, held, failure.status)
                if pause_s is None or job.ctx.ended:
                    raise
            attempt += 1
            job.ctx.retries += 1
            yield self.env.timeout(ns(pause_s))

    def _together(self, job: Job, branches: Sequence[tuple[tuple[Step, ...], Any]], need: int) -> Wait:
        """Run the branches as processes; continue when `need` have succeeded (0: all), fail once that is impossible."""
        if not branches:
            return
        done, key = self.env.event(), job.fork()
        wanted, failures_left = need or len(branches), len(branches) - (need or len(branches))

        def ended(child: simpy.Event) -> None:
            nonlocal wanted, failures_left
            wanted, failures_left = wanted - (child.value == 0), failures_left - (child.value != 0)
            if not done.triggered and (wanted == 0 or failures_left < 0):
                done.succeed(child.value)

        for number, (steps, item) in enumerate(branches):
            child = self.env.process(self.run(Job(job.ctx, mixed(key, number), item), steps))
            assert child.callbacks is not None
            child.callbacks.append(ended)
        status = yield done
        if status:
            raise Failed(status)

    def _once(self, job: Job, name: Any, body: tuple[Step, ...]) -> Wait:
        """Single-flight by `name`: the first walks the body, those that come meanwhile wait for its result."""
        if name is None:
            return
        if name in self.flights:
            status = yield self.flights[name]
            if status:
                raise Failed(status)
            return
        flight, status = self.env.event(), 0
        self.flights[name] = flight
        try:
            yield from self.walk(job, body)
        except Failed as failure:
            status = failure.status
            raise
        finally:
            del self.flights[name]
            flight.succeed(status)

    def append(self, topic: str, event: Callable[[int], Context], key: int) -> None:
        """Append an event to `topic`; each consumer group gets a context of its own from `event(key)`."""
        for number, loop in enumerate(self.groups.get(topic, ())):
            ctx = event(mixed(key, number))
            ctx.topic = topic
            loop.append(ctx.user, ctx)

    def _give_back(self, job: Job, held: int, status: int) -> None:
        """Release the slots that `job` took since it held `held` of them."""
        taken, job.held[held:] = job.held[held:], []
        for pool in taken:
            pool.release(status)
