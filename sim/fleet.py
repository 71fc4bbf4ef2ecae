"""The instances of one service, and HAProxy's choice among them.

A program names a service by its first instance (`gateway-1`). With more instances a request takes a *seat* in
one of them: the one with the fewest requests in flight, round robin on ties. The request then uses only that
instance's CPU, pools and queues. Requests for a full instance wait in the mesh, for `PATIENCE_S` at most.

A gateway has separate slots for each service (its bulkhead): a slow service does not block the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sim.clock import Environment
from sim.jobs import Context
from sim.resources import Pool, Process
from sim.streams import ns
from system.kernel.policies import AutoscaleKnobs, Policies
from system.services.gateway import policy as gateway_policy

SEATS = 256       # `maxconn` of a server, as system/platform/servers/haproxy.py sets it, which sim may not import
QUEUED_SEATS = 32  # if the wait for a seat is an autoscaling target
PATIENCE_S = 2.0  # its `timeout queue`
SERVER_ERROR = 500


def seats_of(knobs: AutoscaleKnobs) -> int:
    """Return the concurrency limit of an instance, as the lab's autoscaler configures the mesh."""
    return QUEUED_SEATS if knobs.max and knobs.queue_s else SEATS


class Seats(Pool):
    """The requests inside one instance. `answers`, `errors`: since its start."""

    def __init__(self, env: Environment, places: int = SEATS) -> None:
        super().__init__(env, places, patience_ns=ns(PATIENCE_S))
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


def bulkheads(env: Environment, names: Sequence[str], knobs: Policies) -> dict[str, Pool]:
    """Return a gateway's slots for each of the services `names`.

    Without a free slot within `deadline.store_s` the answer is 503.
    """
    places = knobs.bulkhead.service or 1 << 40
    return {f"{name}.place": Pool(env, places, patience_ns=ns(knobs.deadline.store_s)) for name in names}


class Instance:
    """One process of a service.

    `open`: the mesh sends it new requests. `queue`: state of the load shedding rule, for a gateway.
    """

    __slots__ = ("name", "node", "number", "open", "pools", "queue", "seats", "turn")

    def __init__(self, name: str, number: int, node: Process, seats: Seats) -> None:
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

    def node_of(self, ctx: Context) -> Process:
        """Return the process that does this request's work."""
        return self.of(ctx).node

    # ---- as a pool: taking and leaving a seat --------------------------------------------------------

    def enter(self, ctx: Context) -> Pool:
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
        ctx.at[self.name] = chosen
        return chosen.seats

    def held_by(self, ctx: Context) -> Pool:
        """Return the seats of the instance that serves this request."""
        return self.of(ctx).seats


class InstancePool:
    """Pool `name` of the instance that serves a request."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet, self._name = fleet, name

    def enter(self, ctx: Context) -> Pool:
        """Return the pool to take a slot in."""
        return self._fleet.of(ctx).pools[self._name]

    held_by = enter
