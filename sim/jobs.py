"""Types shared by the engines of the twin: jobs, the requests that they work for, and name bindings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sim.queues import GroupCommit, Pool
from sim.stations import Node

UNAVAILABLE = 503
GATEWAY_TIMEOUT = 504
TOO_MANY = 429
REFUSED = 1503  # a 503 with `retry-after`: the service requests a pause
OF_MESH = 2503  # a 503 of the load balancer: the service did not respond
NOT_CONNECTED = 1000  # no listener: nothing was sent

Linked = list[tuple[Callable[..., bool], Any, Any, Any]]


class Context:
    """State of one request (or one event), shared by its jobs.

    `due`, `sent`, `done`: seconds of simulated time. `ended`: the client has its response or has left; work
    that has not started is skipped. `status`: HTTP status, 0 while none. `gateway_s`, `service_s`, `store_s`:
    time inside each, from its first instruction to its last. `arrived`: when it last reached the public load
    balancer. `at`: service -> the instance that serves it. The other fields belong to the services' model.
    """

    __slots__ = (
        "absent", "arrived", "at", "attempt", "audience", "batch", "changed", "chunks", "cold", "done", "due", "ended",
        "epoch", "gateway_s", "index", "missing", "page", "pages", "path", "pulled", "retries", "route", "sent", "service_s",
        "source", "status", "store_s", "target", "topic", "tweet", "user",
    )  # fmt: skip

    def __init__(self, index: int, route: str, user: int, target: int, due: float) -> None:
        self.index = index
        self.route = route
        self.user = user
        self.target = target
        self.due = due
        self.sent = self.done = -1.0
        self.arrived = due
        self.at: dict[str, Any] = {}
        self.status = self.retries = self.attempt = self.audience = self.tweet = self.epoch = 0
        self.pages = 1
        self.ended = self.changed = False
        self.source = self.path = self.topic = ""
        self.gateway_s = self.service_s = self.store_s = 0.0
        self.page: Sequence[int] = ()
        self.cold: Sequence[int] = ()
        self.absent: Sequence[int] = ()
        self.pulled: Sequence[int] = ()
        self.chunks: Sequence[int] = ()
        self.missing: Sequence[tuple[str, int]] = ()
        self.batch: Sequence[Context] = ()


class Job:
    """One thread of work: its position in its code, its parent, and the slots that it holds."""

    __slots__ = ("code", "ctx", "frames", "gone", "held", "item", "join", "loops", "on_end", "pc")

    def __init__(self, code: Linked, ctx: Context, join: Join | None, on_end: Callable[[Job, int], None] | None) -> None:
        self.code = code
        self.pc = 0
        self.ctx = ctx
        self.join = join
        self.on_end = on_end
        self.frames: list[Frame] | None = None
        self.loops: list[Iterator[Any]] | None = None
        self.held: list[Pool] | None = None
        self.item: Any = None
        self.gone = False


class Join:
    """Waits for `need` of `alive` children, then continues `parent`; fails it once that is impossible."""

    __slots__ = ("alive", "need", "on_done", "parent")

    def __init__(self, parent: Job, need: int, alive: int, on_done: Callable[[int], None] | None = None) -> None:
        self.parent = parent
        self.need = need
        self.alive = alive
        self.on_done = on_done


class Guard(Protocol):
    """Protection of calls to a dependency: its breaker and its retry schedule (the kernel's own)."""

    def admit(self, now_s: float, attempt: int) -> bool:
        """Return whether a call may be made now; attempts count from 1."""
        ...

    def succeeded(self, now_s: float) -> None:
        """Record that the call was answered."""
        ...

    def failed(self, now_s: float, attempt: int, idempotent: bool, status: int) -> float | None:
        """Record that the call failed with `status`; return seconds until the next attempt, None for no more."""
        ...


@dataclass
class Frame:
    """A guarded call in progress: its start, its attempt, and the loops and slots held before it."""

    guard: Guard
    start: int
    idempotent: bool
    loops: int
    held: int = 0
    attempt: int = 1


@dataclass
class Unit:
    """A unit of work at a node: CPU seconds `base_s + per_item_s * size`, times one draw of `noise` (mean 1).

    `counts`, `sizes`: work units and their summed sizes by second of the run, or None if they are not
    recorded.
    """

    name: str
    base_s: float
    per_item_s: float
    noise: Iterator[float]
    counts: list[float] | None = None
    sizes: list[float] | None = None
    share: float = 1.0

    def part(self, share: float) -> Unit:
        """Return the unit for a step that does `share` of it; both count into the same lists."""
        base_s, per_item_s = self.base_s * share, self.per_item_s * share
        return dataclasses.replace(self, base_s=base_s, per_item_s=per_item_s, share=share)


class PoolSource(Protocol):
    """Provides the pool for a job: a single pool, or the pool of the instance that serves the job."""

    def entered(self, job: Job) -> Pool:
        """Return the pool to take a slot in."""
        ...

    def left(self, job: Job) -> Pool:
        """Return the pool in which this job holds its slot."""
        ...


class Placed(Protocol):
    """A service of several instances."""

    def node_of(self, job: Job) -> Node:
        """Return the process that does this job's work."""
        ...


@dataclass
class Bindings:
    """Bindings of the names in programs: the model of the services fills it, `Engine.link` reads it."""

    nodes: dict[str, Node] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    delays: dict[str, Iterator[float]] = field(default_factory=dict)
    devices: dict[str, GroupCommit] = field(default_factory=dict)
    pools: dict[str, PoolSource] = field(default_factory=dict)
    fleets: dict[str, Placed] = field(default_factory=dict)
    guards: dict[str, Guard] = field(default_factory=dict)
    predicates: dict[str, Callable[[Job], bool]] = field(default_factory=dict)
    effects: dict[str, Callable[[Job], None]] = field(default_factory=dict)
    items: dict[str, Callable[[Job], Sequence[Any]]] = field(default_factory=dict)
    sizes: dict[str, Callable[[Job], float]] = field(default_factory=dict)
    keys: dict[str, Callable[[Job], Any]] = field(default_factory=dict)
    events: dict[str, Callable[[Job], tuple[int, Context]]] = field(default_factory=dict)
