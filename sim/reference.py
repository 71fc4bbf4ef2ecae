"""One replication on the reference engine: the tape played once through the model, with one seed.

Random numbers are keyed by seed, operation and step (`sim/streams.py`), so that two scenarios that differ in one policy
draw the same demands for everything else, and the tape is the same as in the real run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from scenarios import spec, vocabulary, workload
from sim import bandwidth, outcomes, probes, services, stores, workers
from sim.attempts import Attempt, Attempts
from sim.autoscaling import Autoscaler
from sim.calibration import Calibration
from sim.consumers import consume
from sim.engine import Engine
from sim.faults import Faults, FaultWindow
from sim.guards import ServiceGuard
from sim.jobs import GATEWAY_TIMEOUT, NOT_CONNECTED, Context, Job, Unit
from sim.model import EffectRow, Model
from sim.queues import GroupCommit, PollLoop
from sim.resources import Host, Process, Wait
from sim.state import Seeded, World
from sim.stations import Amortization, Pace
from sim.streams import Stream, exponential, key_of, lognormal, mixed, ns, quantiles, uniform
from system.kernel.resilience import retry

OK = 200
JITTER = 1 << 40  # the draw of an attempt that is the pause before it; its steps draw from 0 up
BACKGROUND_TASK_S = 0.0004  # mean CPU of one background task: a timer, a heartbeat, a sample
WARMED_USERS = 10_000  # seeding fills the cache up to here, as in tweetlab/run/warming.py, a higher layer
DRAIN_S = 30.0  # simulated seconds after the load in which requests, events and rebuilds may end
CREATES = frozenset({"post", "reply"})
READS = frozenset(vocabulary.ROUTES) - vocabulary.WRITES - {"delete"}


def _background(seed: int, cores: float) -> Iterator[tuple[int, int]] | None:
    """Yield (pause, CPU) of background tasks, nanoseconds, that use `cores` in all."""
    if cores <= 0.0:
        return None
    demands = Stream(seed, "background", exponential(BACKGROUND_TASK_S))
    pauses = Stream(seed, "background pauses", exponential(BACKGROUND_TASK_S / cores))
    return ((ns(pause), ns(demand)) for pause, demand in zip(pauses, demands, strict=False))


def _paces(seed: int, calibration: Calibration) -> list[Pace]:
    """Return the speed of each core; [] if it is constant."""
    speed = calibration.core_speed
    if speed.constant:
        return []
    return [Pace(speed.slow, speed.share, speed.changes_per_s, Stream(seed, f"speed of core {core}", exponential(1.0)))
            for core in range(int(calibration.cores))]


def initial_instances(platform: str) -> int:
    """Return how many instances of each service a blueprint starts."""
    return sum(node.startswith("gateway-") for node in vocabulary.BLUEPRINTS[platform])


@dataclass
class Played:
    """Results of one replication.

    `attempts`: in order of their start; second pages have numbers from `planned` up. `work`: unit -> (counts, sizes) by
    second, empty unless requested. `probes`, `null_attempts`: the probes that accompany the load. `autoscaler`: its decisions.
    """

    attempts: Attempts
    effects: list[EffectRow]
    faults: list[FaultWindow]
    nodes: dict[str, Process]
    engine: Engine
    model: Model
    probes: list[probes.ProbeRow]
    null_attempts: Attempts
    autoscaler: Autoscaler
    work: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)

    @property
    def operations(self) -> list[Attempt]:
        """The attempts as objects."""
        return self.attempts.rows()

    @property
    def nulls(self) -> list[Attempt]:
        """The probes of the load balancer as objects."""
        return self.null_attempts.rows()


class ReferenceReplication:
    """Builds engine and model for one seed and plays the tape.

    `count_work`: keep units of work by second. `slowness`: factor on all CPU by time (s), where it was measured.
    `fill`: False leaves out what makes events: the compiled engine takes only the bindings.
    """

    def __init__(
        self, scenario: spec.Scenario, calibration: Calibration, seeded: Seeded, seed: int, count_work: bool = False,
        slowness: Callable[[float], float] | None = None, fill: bool = True,
    ) -> None:  # fmt: skip
        self.scenario = scenario
        self._slowness = slowness
        self.seed, self.key = seed, key_of(seed, "operations")
        background = _background(seed, sum(calibration.background_cores.values())) if fill else None
        paces = _paces(seed, calibration)
        slice_ns = ns(calibration.slice_ms / 1e3)
        self.engine = Engine(calibration.cores, lambda env, cores: Host(env, cores, slice_ns, background, paces))
        self.world = World(seeded, start_ms=1_790_000_000_000)
        self.model = Model(self.engine, self.world, scenario)
        self.seconds = int(scenario.workload.load_s + 2 * DRAIN_S) + 2
        self.operations: list[Context] = []
        self.planned = 0
        self.budget = retry.Budget(scenario.policies.retry)
        self._count_work = count_work
        self._build(calibration)
        self.model.bind()
        self.routes = {route: self.engine.link(steps) for route, steps in services.ROUTES.items()}
        knobs = scenario.policies
        self.gather_s = {"indexer": knobs.search.gather_s, "liker": knobs.cache.like_gather_s, "fanout": workers.FANOUT_GATHER_S,
                         "publisher": workers.PUBLISHER_GATHER_S, "relay": workers.LISTEN_S}
        self.loops = self._consume()
        even = Stream(seed, "quota periods", quantiles((0.0, bandwidth.PERIOD_S)))
        self.autoscaler = Autoscaler(self.engine, self.model.fleets, scenario.policies, scenario.cpu_quota,
                             dict(calibration.background_cores), even.__next__, initial_instances(scenario.platform))
        self.delivery = probes.Delivery(self.engine, self.world, self.routes["home"])
        self.nulls: list[Context] = []
        if fill and scenario.population.cache == "warm" and seeded.graph.users <= WARMED_USERS:
            self.world.warm()

    def _build(self, calibration: Calibration) -> None:
        engine, bindings = self.engine, self.engine.bindings
        for name, width in services.WIDTHS.items():
            node = engine.node(name, width)
            node.realtime, node.threaded = name in services.REALTIME, name in stores.THREADED
            node.slowness = self._slowness
            node.off_path = calibration.off_path.get(name, 0.0)
            known = calibration.exponents.get(name)
            if known is not None:
                node.amortization = Amortization(known.exponent, known.reference, known.lowest, known.highest)
        bindings.nodes[services.HAPROXY].down_status = NOT_CONNECTED
        noise = lognormal(calibration.noise_cv)
        for name, cost in calibration.units.items():
            unit = Unit(name, cost.base_us * 1e-6, cost.per_item_us * 1e-6, noise)
            if self._count_work:
                unit.counts, unit.sizes = [0.0] * self.seconds, [0.0] * self.seconds
            bindings.units[name] = unit
        for name, shape in calibration.delays.items():
            bindings.delays[name] = quantiles(tuple(value / 1e3 for value in shape.quantiles_ms))
        for name in stores.DEVICES:
            bindings.devices[name] = GroupCommit(engine.env, Stream(self.seed, f"flush {name}", bindings.delays[name]))
        for service in services.SCALED[1:]:
            bindings.guards[service] = ServiceGuard(self.scenario.policies)

    def _consume(self) -> dict[str, list[PollLoop]]:
        loops: dict[str, list[PollLoop]] = {}
        for consumer in workers.CONSUMERS:
            loops.setdefault(consumer.node, []).append(
                consume(self.engine, consumer, self.seed, ns(self.gather_s.get(consumer.group, 0.0))))
        return loops

    def play(self, tape: workload.Tape) -> Played:
        """Play the whole tape, drain what is in flight, and return the results."""
        if self.scenario.measure.warm_caches:
            home = tape.routes.index("home")
            self.world.read_once(np.unique(tape.user[tape.route == home]).tolist())
        faults = Faults(self.engine, Plant(self))
        for fault in self.scenario.faults_in_load:
            faults.plan(fault)
        env, load_s = self.engine.env, self.scenario.workload.load_s
        env.process(self._arrivals(tape))
        null = self.engine.link(services.NULL)
        env.process(probes.request_null(self.engine, null, load_s, key_of(self.seed, "null"), self.nulls.append))
        env.run(until=ns(load_s + DRAIN_S))
        units = self.engine.bindings.units
        work = {name: (unit.counts, unit.sizes) for name, unit in units.items() if unit.counts and unit.sizes}
        nodes = self.engine.bindings.nodes
        return Played(
            Attempts.from_contexts(self.operations), self.model.effects, faults.done, nodes, self.engine, self.model,
            self.delivery.rows, Attempts.from_contexts(self.nulls),
            self.autoscaler, work,
        )  # fmt: skip

    def _arrivals(self, tape: workload.Tape) -> Wait:
        """Start each operation at its due time."""
        env, self.planned = self.engine.env, len(tape)
        rows = zip(tape.due_ns.tolist(), tape.route.tolist(), tape.user.tolist(), tape.target.tolist(), tape.second_page.tolist())
        for index, (due_ns, route, user, target, second) in enumerate(rows):
            yield env.timeout(due_ns - env.now)
            ctx = self._context(index, tape.routes[route], user, target, due_ns)
            ctx.pages = 2 if second else 1
            env.process(self._operation(ctx))

    def _context(self, index: int, route: str, user: int, target: int, due_ns: int, attempt: int = 0) -> Context:
        ctx = Context(index, route, user, target, due_ns, mixed(mixed(self.key, index), attempt))
        ctx.attempt = attempt
        return ctx

    def _operation(self, ctx: Context) -> Wait:
        """Send a request, again if its outcome is uncertain (as the load driver does), then its second page."""
        knobs, env = self.scenario.policies.retry, self.engine.env
        self.budget.first_try()
        while True:
            yield from self._attempt(ctx)
            uncertain = outcomes.of_status(ctx.status) == outcomes.INFO
            if not uncertain or ctx.attempt + 1 >= knobs.attempts or not self.budget.take():
                break
            last, ctx = ctx, self._context(ctx.index, ctx.route, ctx.user, ctx.target, ctx.due_ns, ctx.attempt + 1)
            ctx.pages = last.pages
            yield env.timeout(ns(retry.pause_s(ctx.attempt, knobs, uniform(ctx.key, JITTER))))
        if ctx.status == OK and ctx.route in CREATES:
            self.delivery.acknowledged(ctx)
        elif ctx.status == OK and ctx.pages == 2:
            following = self._context(self.planned + ctx.index, ctx.route, ctx.user, ctx.target, env.now)
            following.pages = 0
            env.process(self._operation(following))

    def _attempt(self, ctx: Context) -> Wait:
        """Send one attempt and wait for its response, or for the deadline: then its status is 504.

        At the deadline a read is cancelled; a write runs to completion without a waiting client.
        """
        env, job = self.engine.env, Job(ctx, ctx.key)
        self.operations.append(ctx)
        work = env.process(self.engine.run(job, self.routes[ctx.route]))
        yield work | env.timeout(ns(self.scenario.policies.deadline.request_s))
        ctx.done_ns = env.now
        ctx.status = (work.value or OK) if work.triggered else GATEWAY_TIMEOUT
        ctx.ended = work.triggered or ctx.route in READS


class Plant:
    """What faults act on, in the reference engine."""

    def __init__(self, replication: ReferenceReplication) -> None:
        self._world, self._loops = replication.world, replication.loops
        self.nodes = replication.engine.bindings.nodes

    def keys(self) -> int:
        """Return the number of keys in the cache."""
        return self._world.keys()

    def lose_cache(self) -> None:
        """Empty the cache."""
        self._world.lose_cache()

    def crash(self, name: str, status: int) -> None:
        """Kill a process, and stop its consumers."""
        self.nodes[name].crash(status)
        for loop in self._loops.get(name, ()):
            loop.stop()

    def restart(self, name: str) -> None:
        """Start the process again."""
        self.nodes[name].down = False
        for loop in self._loops.get(name, ()):
            loop.resume()
