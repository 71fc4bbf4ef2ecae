"""The instances of one service, and HAProxy's choice among them.

A program names a service by its first instance (`gateway-1`). With more instances a request takes a *seat* in
one of them: the one with the fewest requests in flight, round robin on ties. The request then uses only that
instance's CPU, pools and queues. Requests for a full instance wait in the mesh, for `PATIENCE_S` at most.

A gateway has separate slots for each service (its bulkhead): a slow service does not block the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import simpy

from sim.jobs import Context, Job
from sim.queues import Pool
from sim.stations import Node, Resume, call_after
from system.kernel.policies import AutoscaleKnobs, Policies
from system.services.gateway import policy as gateway_policy

SEATS = 256       # `maxconn` of a server, as system/platform/servers/haproxy.py sets it, which sim may not import
QUEUED_SEATS = 32  # if the wait for a seat is an autoscaling target
PATIENCE_S = 2.0  # its `timeout queue`
SERVER_ERROR = 500


def seats_of(knobs: AutoscaleKnobs) -> int:
    """Return the concurrency limit of an instance, as the lab's autoscaler configures the mesh."""
    return QUEUED_SEATS if knobs.max and knobs.queue_s else SEATS


class TimedPool(Pool):
    """A pool with a maximum wait of `patience_s`. `gave_up(job)`: called for a job that waited too long."""

    def __init__(
        self, env: simpy.Environment, name: str, places: int, resume: Resume, gave_up: Resume, patience_s: float
    ) -> None:
        super().__init__(env, name, places, None, resume)
        self._gave_up, self._patience_s = gave_up, patience_s
        self._until_s: dict[Any, float] = {}

    def acquire(self, job: Any) -> bool | None:
        """As in `Pool`; a waiting job gives up after `patience_s`."""
        taken = super().acquire(job)
        if taken is False:
            self._until_s[job] = self.env.now + self._patience_s
            call_after(self.env, self._patience_s, self._timed_out, (job, self._until_s[job]))
        return taken

    def release(self, _status: int = 0) -> None:
        """As in `Pool`."""
        while self.queue:
            job = self.queue.popleft()
            self._until_s.pop(job, None)
            if not job.gone:
                call_after(self.env, 0.0, lambda event: self.resume(event.value), job)
                return
        self.free += 1

    def _timed_out(self, event: Any) -> None:
        job, until_s = event._value
        if self._until_s.get(job) == until_s:
            del self._until_s[job]
            self.queue.remove(job)
            self._gave_up(job)


class Seats(TimedPool):
    """The requests inside one instance. `answers`, `errors`: since its start."""

    def __init__(self, env: simpy.Environment, name: str, resume: Resume, gave_up: Resume, places: int = SEATS) -> None:
        super().__init__(env, name, places, resume, gave_up, PATIENCE_S)
        self.answers = self.errors = 0

    @property
    def inside(self) -> int:
        """Return the number of requests in the instance."""
        return self.places - self.free

    def release(self, status: int = 0) -> None:
        """Release the seat of a request that ended with `status` (0: success)."""
        self.answers += 1
        self.errors += status % 1000 >= SERVER_ERROR
        super().release(status)


def bulkheads(env: simpy.Environment, names: Sequence[str], knobs: Policies, resume: Resume, gave_up: Resume) -> dict[str, Pool]:
    """Return a gateway's slots for each of the services `names`.

    Without a free slot within `deadline.store_s` the answer is 503.
    """
    places = knobs.bulkhead.service or 1 << 40
    return {f"{name}.place": TimedPool(env, name, places, resume, gave_up, knobs.deadline.store_s) for name in names}


class Instance:
    """One process of a service.

    `open`: the mesh sends it new requests. `queue`: state of the load shedding rule, for a gateway.
    """

    __slots__ = ("name", "node", "number", "open", "pools", "queue", "seats", "turn")

    def __init__(self, name: str, number: int, node: Node, seats: Seats) -> None:
        self.name, self.number, self.node, self.seats = name, number, node, seats
        self.open = True
        self.turn = 0
        self.pools: dict[str, Pool] = {}
        self.queue: gateway_policy.Queue | None = None


Build = Callable[[str, int], Instance]


class Fleet:
    """The instances of the service whose first one is `name`, by number.

    `build(name, number)` creates one with its pools.
    """

    def __init__(self, name: str, build: Build) -> None:
        self.name = name
        self.kind = name.rpartition("-")[0]
        self._build = build
        self._turn = 0
        self.instances: list[Instance] = [build(name, 1)]

    def add(self) -> Instance:
        """Add an instance with the lowest free number, which does not accept requests yet."""
        taken = {one.number for one in self.instances}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        instance = self._build(f"{self.kind}-{number}", number)
        instance.open = False
        self.instances.append(instance)
        self.instances.sort(key=lambda one: one.number)
        return instance

    def remove(self, instance: Instance) -> None:
        """Remove an instance; requests in flight finish there."""
        self.instances.remove(instance)

    def of(self, ctx: Context) -> Instance:
        """Return the instance that serves this request, the first if it took no seat."""
        return ctx.at.get(self.name) or self.instances[0]

    def node_of(self, job: Job) -> Node:
        """Return the process that does this job's work."""
        return self.of(job.ctx).node

    # ---- as a pool: taking and leaving a seat --------------------------------------------------------

    def entered(self, job: Job) -> Pool:
        """Choose an instance for this request by least connections.

        If none accepts requests, use the first.
        """
        instances = self.instances
        chosen = instances[0]
        if len(instances) > 1:
            available = [one for one in instances if one.open and not one.node.down] or instances[:1]
            chosen = min(available, key=lambda one: (one.seats.inside + len(one.seats.queue), one.turn))
            self._turn += 1
            chosen.turn = self._turn
        job.ctx.at[self.name] = chosen
        return chosen.seats

    def left(self, job: Job) -> Pool:
        """Return the seats of the instance that serves this request."""
        return self.of(job.ctx).seats


class InstancePool:
    """Pool `name` of the instance that serves a request."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet, self._name = fleet, name

    def entered(self, job: Job) -> Pool:
        """Return the pool to take a slot in."""
        return self._fleet.of(job.ctx).pools[self._name]

    left = entered
