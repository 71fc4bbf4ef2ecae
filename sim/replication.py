"""One replication: the tape played once through the model, with one seed.

Random numbers come from streams, one per (seed, name), so that two scenarios that differ in one policy draw
the same demands for everything else (common random numbers), and the tape is the same as in the real run.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from scenarios import spec, vocabulary, workload
from sim import bandwidth, outcomes, probes, services, stores, workers
from sim.autoscaling import Autoscaler
from sim.calibration import Calibration, DelayShape
from sim.consumers import consume
from sim.engine import Engine
from sim.faults import Faults, FaultWindow
from sim.guards import ServiceGuard
from sim.host import Pace, RunQueue, call_after
from sim.jobs import GATEWAY_TIMEOUT, NOT_CONNECTED, Context, Job, Unit
from sim.model import EffectRow, Model
from sim.program import flatten
from sim.queues import PollLoop
from sim.state import Seeded, World
from sim.stations import Amortization, Node
from system.kernel.resilience import retry

BLOCK = 2048
SLICE_S = 0.0028  # of the kernel's scheduler on two cores; docs/decisions/0016-cpu-discipline.md
BACKGROUND_TASK_S = 0.0004  # mean CPU of one background task: a timer, a heartbeat, a sample
WARMED_USERS = 10_000  # seeding fills the cache up to here, as in tweetlab/run/warming.py, a higher layer
DRAIN_S = 30.0  # simulated seconds after the load in which requests, events and rebuilds may end
CREATES = frozenset({"post", "reply"})
READS = frozenset(vocabulary.ROUTES) - vocabulary.WRITES - {"delete"}


def stream(seed: int, name: str, draw: Callable[[np.random.Generator, int], np.ndarray]) -> Iterator[float]:
    """Yield draws of the stream `name`, without end."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    while True:
        yield from draw(random, BLOCK).tolist()


def _background(seed: int, cores: float) -> Iterator[tuple[float, float]] | None:
    """Yield (pause, CPU) of background tasks, seconds, that use `cores` in all."""
    if cores <= 0.0:
        return None
    demands = stream(seed, "background", lambda random, n: random.exponential(BACKGROUND_TASK_S, n))
    pauses = stream(seed, "background pauses", lambda random, n: random.exponential(BACKGROUND_TASK_S / cores, n))
    return zip(pauses, demands, strict=False)


def _paces(seed: int, calibration: Calibration) -> list[Pace]:
    """Return the speed of each core; [] if it is constant."""
    speed = calibration.core_speed
    if speed.constant:
        return []
    draws = [stream(seed, f"speed of core {core}", lambda random, n: random.exponential(1.0, n))
             for core in range(int(calibration.cores))]
    return [Pace(speed.slow, speed.share, speed.changes_per_s, one) for one in draws]


def _noise(cv: float) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Lognormal with mean 1: demands are never negative and have a tail."""
    variance = math.log(1.0 + cv * cv)
    return lambda random, n: random.lognormal(-variance / 2.0, math.sqrt(variance), n)


def _shape(shape: DelayShape) -> Callable[[np.random.Generator, int], np.ndarray]:
    seconds = np.asarray(shape.quantiles_ms) / 1000.0
    if len(seconds) == 1:
        return lambda random, n: np.full(n, seconds[0])
    steps = np.linspace(0.0, 1.0, len(seconds))
    return lambda random, n: np.interp(random.random(n), steps, seconds)


def initial_instances(platform: str) -> int:
    """Return how many instances of each service a blueprint starts."""
    return sum(node.startswith("gateway-") for node in vocabulary.BLUEPRINTS[platform])


@dataclass
class Played:
    """Results of one replication.

    `operations`: one per attempt, in order of their start; second pages have numbers from `planned` up.
    `work`: unit -> (counts, sizes) by second, empty unless requested. `probes`, `nulls`: the probes that
    accompany the load. `autoscaler`: its decisions.
    """

    operations: list[Context]
    effects: list[EffectRow]
    faults: list[FaultWindow]
    nodes: dict[str, Node]
    engine: Engine
    model: Model
    probes: list[probes.ProbeRow]
    nulls: list[Context]
    autoscaler: Autoscaler
    work: dict[str, tuple[list[float], list[float]]] = field(default_factory=dict)


class Replication:
    """Builds engine and model for one seed and plays the tape.

    `count_work`: keep units of work by second. `slowness`: factor on all CPU by time (s), where it was measured.
    """

    def __init__(
        self, scenario: spec.Scenario, calibration: Calibration, seeded: Seeded, seed: int, count_work: bool = False,
        slowness: Callable[[float], float] | None = None,
    ) -> None:  # fmt: skip
        self.scenario = scenario
        self._slowness = slowness
        self.seed = seed
        background = _background(seed, sum(calibration.background_cores.values()))
        paces = _paces(seed, calibration)
        self.engine = Engine(calibration.cores, host=lambda env, cores: RunQueue(env, int(cores), SLICE_S, background, paces))
        self.world = World(seeded, start_ms=1_790_000_000_000)
        self.model = Model(self.engine, self.world, scenario)
        self.seconds = int(scenario.workload.load_s + 2 * DRAIN_S) + 2
        self.operations: list[Context] = []
        self.planned = 0
        self.budget = retry.Budget(scenario.policies.retry)
        self.jitter = stream(seed, "client jitter", lambda random, n: random.random(n))
        self._count_work = count_work
        self._build(calibration)
        self.model.bind()
        self.code = {route: self.engine.link(flatten(steps)) for route, steps in services.ROUTES.items()}
        self.loops = self._consume()
        even = stream(seed, "quota periods", lambda random, n: random.random(n) * bandwidth.PERIOD_S)
        self.autoscaler = Autoscaler(self.engine, self.model.fleets, scenario.policies, scenario.cpu_quota,
                             dict(calibration.background_cores), even.__next__, initial_instances(scenario.platform))
        self.delivery = probes.Delivery(self.engine, self.world, self.code["home"], seed)
        self.nulls: list[Context] = []
        if scenario.population.cache == "warm" and seeded.graph.users <= WARMED_USERS:
            self.world.warm()

    def _build(self, calibration: Calibration) -> None:
        engine, bindings = self.engine, self.engine.bindings
        for name, width in services.WIDTHS.items():
            node = engine.node(name, width)
            node.realtime = name in services.REALTIME
            node.slowness = self._slowness
            node.off_path = calibration.off_path.get(name, 0.0)
            known = calibration.exponents.get(name)
            if known is not None:
                node.amortization = Amortization(known.exponent, known.reference, known.lowest, known.highest)
        bindings.nodes[services.HAPROXY].down_status = NOT_CONNECTED
        noise = _noise(calibration.noise_cv)
        for name, cost in calibration.units.items():
            draws = stream(self.seed, name, noise)
            unit = Unit(name, cost.base_us * 1e-6, cost.per_item_us * 1e-6, draws)
            if self._count_work:
                unit.counts, unit.sizes = [0.0] * self.seconds, [0.0] * self.seconds
            bindings.units[name] = unit
        for name, shape in calibration.delays.items():
            bindings.delays[name] = stream(self.seed, f"delay {name}", _shape(shape))
        for name in stores.DEVICES:
            engine.device(name, bindings.delays[name].__next__)
        for service in services.SCALED[1:]:
            jitter = stream(self.seed, f"jitter {service}", lambda random, n: random.random(n))
            bindings.guards[service] = ServiceGuard(self.scenario.policies, jitter)

    def _consume(self) -> dict[str, list[PollLoop]]:
        loops: dict[str, list[PollLoop]] = {}
        knobs = self.scenario.policies
        gather_s = {"indexer": knobs.search.gather_s, "liker": knobs.cache.like_gather_s, "fanout": workers.FANOUT_GATHER_S,
                    "publisher": workers.PUBLISHER_GATHER_S, "relay": workers.LISTEN_S}
        for consumer in workers.CONSUMERS:
            loops.setdefault(consumer.node, []).append(consume(self.engine, consumer, gather_s.get(consumer.group, 0.0)))
        return loops

    def play(self, tape: workload.Tape) -> Played:
        """Play the whole tape, drain what is in flight, and return the results."""
        if self.scenario.measure.warm_caches:
            home = tape.routes.index("home")
            self.world.read_once(np.unique(tape.user[tape.route == home]).tolist())
        faults = Faults(self.engine, self.model, self.loops)
        for fault in self.scenario.faults_in_load:
            faults.plan(fault)
        self._feed(tape)
        null = self.engine.link(flatten(services.NULL))
        probes.request_null(self.engine, null, self.scenario.workload.load_s, self.nulls.append)
        self.engine.env.run(until=self.scenario.workload.load_s + DRAIN_S)
        units = self.engine.bindings.units
        work = {name: (unit.counts, unit.sizes) for name, unit in units.items() if unit.counts and unit.sizes}
        nodes = self.engine.bindings.nodes
        return Played(
            self.operations, self.model.effects, faults.done, nodes, self.engine, self.model, self.delivery.rows, self.nulls,
            self.autoscaler, work,
        )  # fmt: skip

    def _feed(self, tape: workload.Tape) -> None:
        """Start each operation at its due time; only the next one is ever in the event list."""
        due_s = (tape.due_ns / 1e9).tolist()
        routes, users, targets = tape.route.tolist(), tape.user.tolist(), tape.target.tolist()
        names, env, count = tape.routes, self.engine.env, len(due_s)
        second = tape.second_page.tolist()
        self.planned = count

        def arrive(event: object) -> None:
            index: int = event._value  # type: ignore[attr-defined]
            if index + 1 < count:
                call_after(env, due_s[index + 1] - env.now, arrive, index + 1)
            ctx = Context(index, names[routes[index]], users[index], targets[index], due_s[index])
            ctx.pages = 2 if second[index] else 1
            self._first(ctx)

        if count:
            call_after(env, due_s[0], arrive, 0)

    def _begin(self, ctx: Context) -> None:
        self.operations.append(ctx)
        self.engine.expire_after(self.scenario.policies.deadline.request_s, ctx, self._deadline)
        self.engine.start(self.code[ctx.route], ctx, self._ended)

    def _ended(self, job: Job, status: int) -> None:
        ctx = job.ctx
        if ctx.done >= 0.0:
            return
        ctx.done = self.engine.env.now
        ctx.ended = True
        ctx.status = status or 200
        if status:
            self._retry(ctx)
        elif ctx.route in CREATES:
            self.delivery.acknowledged(ctx)
        elif ctx.pages == 2:
            following = Context(self.planned + ctx.index, ctx.route, ctx.user, ctx.target, ctx.done)
            following.pages = 0
            self._first(following)

    def _deadline(self, ctx: Context) -> None:
        """End the attempt with 504.

        A read is cancelled; a write runs to completion without a waiting client.
        """
        if ctx.done >= 0.0:
            return
        ctx.done = self.engine.env.now
        ctx.status = GATEWAY_TIMEOUT
        ctx.ended = ctx.route in READS
        self._retry(ctx)

    def _first(self, ctx: Context) -> None:
        """Start the first attempt of an operation, which adds to the client's retry budget."""
        self.budget.first_try()
        self._begin(ctx)

    def _retry(self, ctx: Context) -> None:
        """Retry an attempt with an uncertain outcome by the client's policy, as the load driver does."""
        knobs = self.scenario.policies.retry
        uncertain = outcomes.of_status(ctx.status) == outcomes.INFO
        if not uncertain or ctx.attempt + 1 >= knobs.attempts or not self.budget.take():
            return
        following = Context(ctx.index, ctx.route, ctx.user, ctx.target, ctx.due)
        following.attempt, following.pages = ctx.attempt + 1, ctx.pages
        pause_s = retry.pause_s(following.attempt, knobs, next(self.jitter))
        call_after(self.engine.env, pause_s, lambda _event: self._begin(following))
