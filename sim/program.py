"""The program language of the twin: a route is a small program of steps, which an engine executes.

A `Step` is one need of a request (a slice of CPU at a node, a wait, a slot in a pool, a decision, ...).
`flatten` turns a nested tree of steps into one flat tuple of `Instruction`s with relative-free jump targets,
so that a compiled engine can run the same program from integer arrays. Names (nodes, units of work,
predicates, effects) are strings here; an engine binds them when it links the program and rejects unknown
names.

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

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Instruction:
    """One flat operation: `op` names it, `args` are strings, numbers, jump targets or nested code (`Each`, ...)."""

    op: str
    args: tuple[Any, ...] = ()


Code = tuple[Instruction, ...]


def flatten(steps: tuple[Step, ...]) -> Code:
    """Turn a tree of steps into flat code ending with `end`. Raises `UnknownStep` for anything but a step."""
    code: list[Instruction] = []
    _emit(steps, code)
    code.append(Instruction("end"))
    return tuple(code)


def _emit(steps: tuple[Step, ...], code: list[Instruction]) -> None:
    for step in steps:
        match step:
            case Cpu(node, unit, size, share):
                code.append(Instruction("cpu", (node, unit, size, share)))
            case Delay(name):
                code.append(Instruction("delay", (name,)))
            case Flush(device):
                code.append(Instruction("flush", (device,)))
            case Acquire(pool):
                code.append(Instruction("acquire", (pool,)))
            case Release(pool):
                code.append(Instruction("release", (pool,)))
            case Publish(topic):
                code.append(Instruction("publish", (topic,)))
            case Effect(name):
                code.append(Instruction("effect", (name,)))
            case Fail(status):
                code.append(Instruction("fail", (status,)))
            case Each(items, body, need):
                code.append(Instruction("each", (items, flatten(body), need)))
            case Parallel(bodies, need):
                code.append(Instruction("parallel", (tuple(flatten(body) for body in bodies), need)))
            case Once(key, body):
                code.append(Instruction("once", (key, flatten(body))))
            case Branch() | Call() | Loop():
                _emit_jump(step, code)
            case _:
                raise UnknownStep(
                    f"{step!r} is not a step of the twin's language; known are "
                    f"{', '.join(sorted(kind.__name__ for kind in Step.__args__))}"
                )


def _emit_jump(step: Branch | Call | Loop, code: list[Instruction]) -> None:
    """Emit the steps that jump inside the same code, so that the common path creates no child job."""
    start = len(code)
    match step:
        case Branch(when, then, otherwise):
            code.append(Instruction("branch"))
            _emit(then, code)
            skip = len(code)
            code.append(Instruction("jump"))
            _emit(otherwise, code)
            code[start] = Instruction("branch", (when, skip + 1))
            code[skip] = Instruction("jump", (len(code),))
        case Loop(items, body):
            code.append(Instruction("loop", (items,)))
            code.append(Instruction("next"))
            _emit(body, code)
            code.append(Instruction("jump", (start + 1,)))
            code[start + 1] = Instruction("next", (len(code),))
        case Call(target, body, idempotent):
            code.append(Instruction("call", (target, idempotent)))
            _emit(body, code)
            code.append(Instruction("returned", (target,)))
