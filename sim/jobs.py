"""Types of the engines: requests and events, the jobs that work for them, and name bindings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sim.queues import GroupCommit
from sim.resources import OF_MESH as OF_MESH
from sim.resources import REFUSED as REFUSED
from sim.resources import Pool, Process
from sim.streams import NS, Law, mixed, uniform

UNAVAILABLE = 503
GATEWAY_TIMEOUT = 504
TOO_MANY = 429
NOT_CONNECTED = 1000  # no listener: nothing was sent


class Times:
    """Times in seconds of what has `due_ns`, `sent_ns` and `done_ns`."""

    __slots__ = ()
    due_ns: int
    sent_ns: int
    done_ns: int

    @property
    def due(self) -> float:
        """Intended start, seconds."""
        return self.due_ns / NS

    @property
    def sent(self) -> float:
        """First byte sent, seconds; negative: not sent."""
        return self.sent_ns / NS

    @property
    def done(self) -> float:
        """End, seconds; negative: not ended."""
        return self.done_ns / NS


class Context(Times):
    """State of one request (or one event), shared by its jobs.

    `key`: of its random draws. `due_ns`, `sent_ns`, `done_ns`: simulated time, -1: not yet. `ended`: the client has its
    response or has left; work that has not started is skipped. `status`: HTTP status, 0 while none. `gateway_ns`,
    `service_ns`, `store_ns`: time inside each, from its first instruction to its last. `arrived_ns`: when it last reached
    the public load balancer. `at`: service -> the instance that serves it. The other fields belong to the services' model.
    """

    __slots__ = (
        "absent", "arrived_ns", "at", "attempt", "audience", "batch", "changed", "chunks", "cold", "done_ns", "due_ns", "ended",
        "epoch", "gateway_ns", "index", "key", "page", "pages", "path", "pulled", "retries", "route", "sent_ns",
        "service_ns", "source", "status", "store_ns", "target", "topic", "tweet", "user",
    )  # fmt: skip

    def __init__(self, index: int, route: str, user: int, target: int, due_ns: int, key: int) -> None:
        self.index = index
        self.route = route
        self.user = user
        self.target = target
        self.due_ns = self.arrived_ns = due_ns
        self.key = key
        self.sent_ns = self.done_ns = -1
        self.at: dict[str, Any] = {}
        self.status = self.retries = self.attempt = self.audience = self.tweet = self.epoch = 0
        self.pages = 1
        self.ended = self.changed = False
        self.source = self.path = self.topic = ""
        self.gateway_ns = self.service_ns = self.store_ns = 0
        self.page: Sequence[int] = ()
        self.cold: Sequence[int] = ()
        self.absent: Sequence[int] = ()
        self.pulled: Sequence[int] = ()
        self.chunks: Sequence[int] = ()
        self.batch: Sequence[Context] = ()


class Job:
    """One thread of work for `ctx`: its key and number of draws, its item of a list, and the slots that it holds."""

    __slots__ = ("ctx", "draws", "held", "item", "key")

    def __init__(self, ctx: Context, key: int, item: Any = None) -> None:
        self.ctx, self.key, self.item = ctx, key, item
        self.draws = 0
        self.held: list[Pool] = []

    def draw(self) -> float:
        """Return the next random number of this job, uniform in (0, 1)."""
        self.draws += 1
        return uniform(self.key, self.draws - 1)

    def fork(self) -> int:
        """Return a key for jobs and events that this job starts."""
        self.draws += 1
        return mixed(self.key, self.draws - 1)


@dataclass(frozen=True)
class Chance:
    """A predicate that holds with a `probability`, drawn for each job. Both engines know it."""

    probability: float

    def __call__(self, job: Job) -> bool:
        """Draw."""
        return job.draw() < self.probability


@dataclass(frozen=True)
class Numbers:
    """A list of the whole numbers below `count`. Both engines know it."""

    count: int

    def __call__(self, _job: Job) -> range:
        """Return the list."""
        return range(self.count)


class Guard(Protocol):
    """Protection of calls to a dependency: its breaker and its retry schedule (the kernel's own)."""

    def admit(self, now_s: float, attempt: int) -> bool:
        """Return whether a call may be made now; attempts count from 1."""
        ...

    def succeeded(self, now_s: float) -> None:
        """Record that the call was answered."""
        ...

    def failed(self, now_s: float, attempt: int, idempotent: bool, status: int, draw: Callable[[], float]) -> float | None:
        """Record that the call failed with `status`; return seconds until the next attempt, None for no more."""
        ...


@dataclass
class Unit:
    """A unit of work at a process: CPU seconds `base_s + per_item_s * items`, times one draw of `noise` (mean 1).

    `counts`, `sizes`: work units and their summed sizes by second of the run, or None if they are not
    recorded.
    """

    name: str
    base_s: float
    per_item_s: float
    noise: Law
    counts: list[float] | None = None
    sizes: list[float] | None = None

    def demand_s(self, second: int, items: float, share: float) -> float:
        """Count `share` of a unit for `items` and return its mean CPU, seconds."""
        if self.counts is not None and self.sizes is not None:
            self.counts[second] += share
            self.sizes[second] += items * share
        return (self.base_s + self.per_item_s * items) * share


class PoolSource(Protocol):
    """Provides the pool for a request: a single pool, or the pool of the instance that serves the request."""

    def enter(self, ctx: Context) -> Pool:
        """Return the pool to take a slot in."""
        ...

    def held_by(self, ctx: Context) -> Pool:
        """Return the pool in which this request holds its slot."""
        ...


class Placed(Protocol):
    """A service of several instances."""

    def node_of(self, ctx: Context) -> Process:
        """Return the process that does this request's work."""
        ...


@dataclass
class Bindings:
    """Bindings of the names in programs: the model of the services fills it, the engines read it."""

    nodes: dict[str, Process] = field(default_factory=dict)
    units: dict[str, Unit] = field(default_factory=dict)
    delays: dict[str, Law] = field(default_factory=dict)
    devices: dict[str, GroupCommit] = field(default_factory=dict)
    pools: dict[str, PoolSource] = field(default_factory=dict)
    fleets: dict[str, Placed] = field(default_factory=dict)
    guards: dict[str, Guard] = field(default_factory=dict)
    predicates: dict[str, Callable[[Job], bool]] = field(default_factory=dict)
    effects: dict[str, Callable[[Job], None]] = field(default_factory=dict)
    items: dict[str, Callable[[Job], Sequence[Any]]] = field(default_factory=dict)
    sizes: dict[str, Callable[[Job], float]] = field(default_factory=dict)
    keys: dict[str, Callable[[Job], Any]] = field(default_factory=dict)
    events: dict[str, Callable[[Job], Callable[[int], Context]]] = field(default_factory=dict)
