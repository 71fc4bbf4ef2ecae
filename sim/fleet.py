"""The instances of one service, and HAProxy's choice among them.

A program names a service by its first instance (`gateway-1`). With further instances a request takes a *seat* in one of them:
the one with the fewest requests inside, in turn where several have as few. All CPU, pools and queues of that service
which the request then uses are that instance's own. A full instance makes requests wait in the mesh, for `PATIENCE_S` at most.

A gateway has places of its own for each service (its bulkhead): a slow one leaves the others their room in the gateway.
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

SEATS = 256       # `maxconn` of a server, as system/platform/servers/haproxy.py sets it, which the twin may not import
QUEUED_SEATS = 32  # where the wait for a seat decides how many instances stand
PATIENCE_S = 2.0  # its `timeout queue`
SERVER_ERROR = 500


def seats_of(knobs: AutoscaleKnobs) -> int:
    """Return how many requests each instance may have inside, as the autoscaler of the lab tells the mesh."""
    return QUEUED_SEATS if knobs.max and knobs.queue_s else SEATS


class Patient(Pool):
    """Paths for which one waits no longer than `patience_s`. `gave_up(job)`: told of who waited too long."""

    def __init__(
        self, env: simpy.Environment, name: str, places: int, resume: Resume, gave_up: Resume, patience_s: float
    ) -> None:
        super().__init__(env, name, places, None, resume)
        self._gave_up, self._patience_s = gave_up, patience_s
        self._until_s: dict[Any, float] = {}

    def acquire(self, job: Any) -> bool | None:
        """As in `Pool`; who waits is told after the patience."""
        taken = super().acquire(job)
        if taken is False:
            self._until_s[job] = self.env.now + self._patience_s
            call_after(self.env, self._patience_s, self._look, (job, self._until_s[job]))
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

    def _look(self, event: Any) -> None:
        job, until_s = event._value
        if self._until_s.get(job) == until_s:
            del self._until_s[job]
            self.queue.remove(job)
            self._gave_up(job)


class Seats(Patient):
    """The requests inside one instance. `answers`, `errors`: since it stands."""

    def __init__(self, env: simpy.Environment, name: str, resume: Resume, gave_up: Resume, places: int = SEATS) -> None:
        super().__init__(env, name, places, resume, gave_up, PATIENCE_S)
        self.answers = self.errors = 0

    @property
    def inside(self) -> int:
        """Requests in the instance now."""
        return self.places - self.free

    def release(self, status: int = 0) -> None:
        """A request left with `status` (0: well)."""
        self.answers += 1
        self.errors += status % 1000 >= SERVER_ERROR
        super().release(status)


def bulkheads(env: simpy.Environment, names: Sequence[str], knobs: Policies, resume: Resume, gave_up: Resume) -> dict[str, Pool]:
    """Return a gateway's places for each of the services `names`: who finds none in a store's time is answered 503."""
    places = knobs.bulkhead.service or 1 << 40
    return {f"{name}.place": Patient(env, name, places, resume, gave_up, knobs.deadline.store_s) for name in names}


class Instance:
    """One process of a service. `open`: the mesh sends it new requests. `queue`: of the shedding rule, for a gateway."""

    __slots__ = ("name", "node", "number", "open", "pools", "queue", "seats", "turn")

    def __init__(self, name: str, number: int, node: Node, seats: Seats) -> None:
        self.name, self.number, self.node, self.seats = name, number, node, seats
        self.open = True
        self.turn = 0
        self.pools: dict[str, Pool] = {}
        self.queue: gateway_policy.Queue | None = None


Build = Callable[[str, int], Instance]


class Fleet:
    """The instances of the service whose first one is `name`, by number. `build(name, number)` makes one with its pools."""

    def __init__(self, name: str, build: Build) -> None:
        self.name = name
        self.kind = name.rpartition("-")[0]
        self._build = build
        self._turn = 0
        self.instances: list[Instance] = [build(name, 1)]

    def add(self) -> Instance:
        """Make a further instance, which takes no requests yet: the lowest number that is free."""
        taken = {one.number for one in self.instances}
        number = next(n for n in range(1, len(taken) + 2) if n not in taken)
        made = self._build(f"{self.kind}-{number}", number)
        made.open = False
        self.instances.append(made)
        self.instances.sort(key=lambda one: one.number)
        return made

    def remove(self, one: Instance) -> None:
        """Forget an instance; requests that are still inside end there."""
        self.instances.remove(one)

    def of(self, ctx: Context) -> Instance:
        """The instance that serves this request, the first where it took no seat."""
        return ctx.at.get(self.name) or self.instances[0]

    def node_of(self, job: Job) -> Node:
        """The process that does this job's work."""
        return self.of(job.ctx).node

    # ---- as a pool: taking and leaving a seat --------------------------------------------------------

    def entered(self, job: Job) -> Pool:
        """Choose an instance for this request: few connections first. Where none takes requests, the first is asked."""
        here = self.instances
        chosen = here[0]
        if len(here) > 1:
            able = [one for one in here if one.open and not one.node.down] or here[:1]
            chosen = min(able, key=lambda one: (one.seats.inside + len(one.seats.queue), one.turn))
            self._turn += 1
            chosen.turn = self._turn
        job.ctx.at[self.name] = chosen
        return chosen.seats

    def left(self, job: Job) -> Pool:
        """The seats of the instance that serves this request."""
        return self.of(job.ctx).seats


class Inside:
    """Pool `name` of whichever instance serves a request."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet, self._name = fleet, name

    def entered(self, job: Job) -> Pool:
        """The pool to take a place in."""
        return self._fleet.of(job.ctx).pools[self._name]

    left = entered
