"""The program language of the twin: a route is a small program of steps, which an engine executes.

A `Step` is one need of a request (a slice of CPU at a node, a wait, a slot in a pool, a decision, ...). Names (nodes,
units of work, predicates, effects) are strings here; an engine binds them when it links the program and rejects
unknown names. The reference engine (`sim/engine.py`) walks the tree of steps as it is; the compiled one translates it.

| step | meaning |
|---|---|
| `Cpu` | use the CPU demand of a unit of work at a node (FCFS there if the node is single-threaded, on the shared CPU) |
| `Delay` | wait without CPU: network, timers |
| `Flush` | wait until a write is durable: one flush of the device at a time covers all writes that wait |
| `Acquire`, `Release` | a slot in a bounded pool; `Acquire` fails the request when the pool's queue is full |
| `Branch` | a decision on the state of the model: hit or miss, push or pull |
| `Each` | run a body once per item, concurrently, continue when all (or the first k) are done: fan-out, k-of-n |
| `Parallel` | different bodies concurrently, continue when `need` of them are done |
| `Loop` | run a body once per item, one after the other (the chunks of a fan-out) |
| `Once` | single-flight: the first runs the body, later ones wait for it |
| `Call` | a guarded call of a dependency: breaker before, retry schedule after a failure |
| `Publish` | append to a topic; its consumer groups run their own program |
| `Effect` | change the state of the model at this moment |
| `Fail` | end the request with an error status |

Consuming is not a step of a route: a `Consumer` row names group, process, topics and the program run per
event.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from system.kernel.errors import CouldNotRun


class UnknownStep(CouldNotRun):
    """A program contains something that no engine can run: a bug in the program, never silently skipped."""


@dataclass(frozen=True)
class Cpu:
    """Use the CPU of work `unit` at `node`.

    `size` names a measure of the job that scales the demand (a + b * size).

    `share`: part of the unit done in this step, for work before and after a call.
    """

    node: str
    unit: str
    size: str = ""
    share: float = 1.0


@dataclass(frozen=True)
class Delay:
    """Wait for one draw of the named delay (seconds), without using CPU."""

    name: str


@dataclass(frozen=True)
class Flush:
    """Wait until the job's write is durable on `device` (group commit)."""

    device: str


@dataclass(frozen=True)
class Acquire:
    """Take a slot in `pool`, waiting in its queue; a full queue fails the job with 503."""

    pool: str


@dataclass(frozen=True)
class Release:
    """Release the slot in `pool`."""

    pool: str


@dataclass(frozen=True)
class Branch:
    """Continue with `then` if predicate `when` holds for the job at this time, else with `otherwise`."""

    when: str
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Each:
    """Run `body` once per item of list `items`, concurrently; continue when `need` are done (0: all of them).

    The others keep running and using CPU: a late replica is not free.
    """

    items: str
    body: tuple[Step, ...]
    need: int = 0


@dataclass(frozen=True)
class Parallel:
    """Run the bodies concurrently; continue when `need` of them are done (0: all)."""

    bodies: tuple[tuple[Step, ...], ...]
    need: int = 0


@dataclass(frozen=True)
class Loop:
    """Run `body` once per item of list `items`, one after the other."""

    items: str
    body: tuple[Step, ...]


@dataclass(frozen=True)
class Once:
    """Single-flight by the result of function `key`: one runs `body`, the others wait until it is done."""

    key: str
    body: tuple[Step, ...]


@dataclass(frozen=True)
class Call:
    """Call dependency `target`: refused while its breaker is open, retried by the retry schedule if `idempotent`."""

    target: str
    body: tuple[Step, ...]
    idempotent: bool = True


@dataclass(frozen=True)
class Publish:
    """Append the job's event to `topic`; every consumer group of the topic gets it."""

    topic: str


@dataclass(frozen=True)
class Effect:
    """Apply the named change to the model's state."""

    name: str


@dataclass(frozen=True)
class Fail:
    """End the job (or the guarded call around it) with HTTP `status`."""

    status: int


Step = (
    Cpu | Delay | Flush | Acquire | Release | Branch | Each | Parallel | Loop | Once | Call | Publish | Effect | Fail
)


@dataclass(frozen=True)
class Consumer:
    """A consumer group: its poll loop at `node` runs the body of each event's topic, for `lanes` keys
    concurrently.

    `bodies`: (topic, steps). `poll_delay`: names the wait until an idle poll loop sees a new event. `batch`:
    gathered events of all topics are handled as one batch, by the first topic's body. `begin`, `commit`: run
    once per poll, before and after its events.
    """

    group: str
    node: str
    bodies: tuple[tuple[str, tuple[Step, ...]], ...]
    lanes: int
    poll_delay: str
    batch: bool = False
    begin: tuple[Step, ...] = ()
    commit: tuple[Step, ...] = ()


def names(steps: tuple[Step, ...]) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, table of `sim.jobs.Bindings`, name) of every name in `steps`. Raises UnknownStep for no step."""
    for step in steps:
        match step:
            case Cpu(node, unit, size):
                yield "node", "nodes", node
                yield "unit", "units", f"{node}.{unit}"
                if size:
                    yield "size", "sizes", size
            case Each(items, body) | Loop(items, body):
                yield "list of items", "items", items
                yield from names(body)
            case Branch(when, then, otherwise):
                yield "predicate", "predicates", when
                yield from names(then + otherwise)
            case Parallel(bodies):
                for body in bodies:
                    yield from names(body)
            case Once(key, body):
                yield "key", "keys", key
                yield from names(body)
            case Call(target, body):
                yield "guard", "guards", target
                yield from names(body)
            case Delay(name):
                yield "delay", "delays", name
            case Flush(name):
                yield "device", "devices", name
            case Acquire(name) | Release(name):
                yield "pool", "pools", name
            case Publish(name):
                yield "event of topic", "events", name
            case Effect(name):
                yield "effect", "effects", name
            case Fail():
                pass
            case _:
                raise UnknownStep(f"{step!r} is not a step of the twin's language; known are "
                                  f"{', '.join(sorted(kind.__name__ for kind in Step.__args__))}")
