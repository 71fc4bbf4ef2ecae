"""The tables of the compiled engine, filled from an engine whose names are bound, and the loop that runs the kernel on them.

| table | rows |
|---|---|
| `rows`, int64 (n, WIDTH) | every object: the engine itself (0), cores, processes, tasks, jobs, pools, ... |
| `floats`, float64 (n, FLOATS) | figures of processes and guards |
| `contexts`, int64 (n, CONTEXT_WIDTH) | requests, events and batches, in order of their creation |
| `heap`, `rings`, int64 | events later; those in this instant, urgent (0) and soon (1), and deadlines (2) |
| `code`, `shares`, `units`, `laws` | programs, units of work (base s, per item s, law) and laws |
| `users`, `tweets`, `edges`, `extra`, `windows`, `flights`, `knobs` | the data of the model (`sim.compiled.world`) |
| `effects`, `cpu`, `work`, `responses`, `trace` | recorded: effect log, CPU ns by second, units of work, histograms, steps |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sim.bandwidth import Bandwidth
from sim.compiled import kernel, model
from sim.compiled.layout import *
from sim.compiled.link import Linker
from sim.compiled.load import BUCKETS
from sim.compiled.model import LIMITS, ROUTES
from sim.compiled.world import TWEET_WIDTH, USER_WIDTH
from sim.disciplines import ProcessorSharing
from sim.engine import Engine
from sim.guards import ServiceGuard
from sim.program import Step, UnknownStep
from sim.resources import Host, Pool, Process
from sim.streams import NS, Stream, key_of
from system.kernel.errors import CouldNotRun
from system.kernel.policies import Policies
from system.kernel.resilience.retry import Budget

MOST_PROCESSES = 256
MOST_WAITING = 100_000


def zeros(*shape: int) -> Any:
    """Return a table of int64 zeros. Memory is taken only for the rows that are used, in huge pages if the table is large."""
    return np.zeros(shape, np.int64)


class Overflow(CouldNotRun):
    """A table of the compiled engine is full."""


class Machine:
    """The tables, and what the names of `engine` are in them.

    `seconds`: of simulated time for which CPU is recorded. `trace`: record every step.
    """

    def __init__(self, engine: Engine, seed: int, seconds: int, *, trace: bool = False) -> None:
        bindings = engine.bindings
        self.seed = seed
        self.rows = zeros(1 << 15, WIDTH)
        self.rows[0, USED] = self.rows[0, CONTEXTS] = 1
        self.rows[0, STAMP] = 1 << 62  # no time, row or count is that large: rows are used again for other objects
        self.floats = np.zeros((MOST_PROCESSES, FLOATS))
        self.contexts = zeros(1 << 15, CONTEXT_WIDTH)
        self.heap = zeros(1 << 14, 5)
        self.rings = zeros(3, 1 << 16, 4)
        self.cpu = np.zeros((MOST_PROCESSES, seconds), np.int64)
        self.slowness = np.zeros(0)
        self.responses = np.zeros((0, seconds, BUCKETS), np.int64)
        self.work = np.zeros((0, seconds, 2))
        self.trace = zeros(1 << 16 if trace else 0, 3)
        self.tape = np.zeros((0, 5), np.int64)
        self.users = np.zeros((2, USER_WIDTH), np.int64)
        self.tweets = np.zeros((2, TWEET_WIDTH), np.int64)
        self.edges = np.zeros(16, np.int64)
        self.extra = np.zeros((1, 3), np.int64)
        self.windows = np.zeros((0, 26), np.int64)
        self.flights = np.zeros(4 * 2 + 2 * MOST_PROCESSES, np.int64)
        self.items = np.zeros((4, 2), np.int64)
        self.effects = zeros(1 << 14, 4)
        self.knobs = np.zeros(LIMITS + 2 * len(ROUTES))
        self.routes = np.zeros((len(ROUTES), 3), np.int64)
        self.load_s = 0.0
        self.processes: dict[str, int] = {}
        self.numbered = 0
        self._add_cores(engine)
        self.rows[0, FLEETS] = self.rows[0, USED]
        self.rows[0, USED] += 16
        self.numbers: dict[str, dict[str, int]] = {
            "nodes": self.processes, "pools": {}, "devices": {}, "guards": {}, "topics": {}}  # fmt: skip
        self.linker = Linker(bindings, self.numbers, {})
        for name, process in bindings.nodes.items():
            self.add_process(name, process)
        self.numbers["units"] = {name: number for number, name in enumerate(bindings.units)}
        self.units = np.asarray([[unit.base_s, unit.per_item_s, self.linker.law(unit.noise)] for unit in bindings.units.values()]
                                or [[0.0, 0.0, 0.0]])
        for name, pool in bindings.pools.items():
            if isinstance(pool, Pool):
                self.numbers["pools"][name] = self.add_pool(pool)
        for name, device in bindings.devices.items():
            row = self.numbers["devices"][name] = self.new()
            assert isinstance(device.flushes, Stream)
            self.rows[row, D_LAW], self.rows[row, D_KEY] = self.linker.law(device.flushes.law), device.flushes.key
        for name, guard in bindings.guards.items():
            row = self.numbers["guards"][name] = self.new()
            self.rows[row, G_NUMBER] = self.number()
            assert isinstance(guard, ServiceGuard)
            self.floats[self.rows[row, G_NUMBER], B_TOKENS] = guard.tokens
        self.rows[0, OPERATION_KEY], self.rows[0, NULL_KEY] = key_of(seed, "operations"), key_of(seed, "null")

    # ---- building ------------------------------------------------------------------------------------

    def new(self) -> int:
        """Return an empty row."""
        self.rows[0, USED] += 1
        return int(self.rows[0, USED]) - 1

    def number(self) -> int:
        """Return a new number of a process or guard."""
        self.numbered += 1
        if self.numbered > MOST_PROCESSES:
            raise Overflow(f"The compiled engine has room for {MOST_PROCESSES} processes and guards.")
        return self.numbered - 1

    def _add_cores(self, engine: Engine) -> None:
        self.rows[0, CORE], self.rows[0, CORES] = self.rows[0, USED], len(engine.host.cores)
        self.rows[0, SLICE] = engine.host.slice_ns
        if isinstance(engine.host, ProcessorSharing):
            self.rows[0, SHARING] = engine.host.speed
        elif type(engine.host) is not Host:
            raise UnknownStep(f"The compiled engine has no CPU discipline {type(engine.host).__name__}.")
        self.rows[0, USED] += len(engine.host.cores)
        self.rows[0, TIMED_CORES] = len(engine.host.cores) if len(engine.host.cores) <= MOST_TIMED_CORES else 0
        for row, core in enumerate(engine.host.cores, int(self.rows[0, CORE])):
            own, pace = self.rows[row], core.speed
            own[K_PACE], own[K_AT] = core.pace, FOREVER
            if pace is not None:
                assert isinstance(pace.draws, Stream)
                own[K_PACED], own[K_UNTIL], own[K_KEY], own[K_DRAWS] = 1, pace.until_ns, pace.draws.key, pace.draws.number
                own[K_FAST], own[K_SLOW] = pace.factors
                own[K_MEAN_FAST], own[K_MEAN_SLOW] = pace.mean_ns

    def add_process(self, name: str, process: Process) -> int:
        """Add a process of the reference engine."""
        row, number = self.new(), self.number()
        self.processes[name] = row
        own = self.rows[row]
        own[N_WIDTH], own[N_REALTIME], own[N_NUMBER] = process.width, process.realtime, number
        own[N_DOWN_STATUS], own[Q_TIMER], own[V_PRIVACY], own[V_VIEW] = process.down_status, -1, NEVER, NEVER
        self.floats[number, [OFF_PATH, ABOVE_SINCE]] = process.off_path, -1.0
        self.set_costs(process)
        self.set_quota(process)
        return row

    def set_costs(self, process: Process) -> None:
        """Set how a process' costs fall with its load, without a past."""
        own, law = self.rows[self.processes[process.name]], process.amortization
        if law is not None:
            own[N_AMORTIZED] = 1
            self.floats[own[N_NUMBER], : A_MOST + 1] = 0.0
            self.floats[own[N_NUMBER], [A_EXPONENT, A_REFERENCE, A_LOWEST, A_HIGHEST, A_FACTOR, A_LEAST]] = (
                law.exponent, law.reference, law.lowest, law.highest, law.at(law.lowest), law.least if process.threaded else 0.0)

    def set_quota(self, process: Process) -> None:
        """Set the CPU limit of a process, at the start of a period."""
        own, quota = self.rows[self.processes[process.name]], process.quota
        own[Q_ON : Q_THROTTLED + 1] = 0
        own[Q_TIMER] = -1
        if quota is not None:
            assert isinstance(quota, Bandwidth)
            own[Q_ON], own[Q_BUDGET], own[Q_PERIOD], own[Q_PHASE] = 1, quota.budget_ns, quota.period_ns, quota.phase_ns

    def add_pool(self, pool: Pool, seats: bool = False) -> int:
        """Add a pool. Its queue is bounded where `admits` says so, asked for each length."""
        row = self.new()
        own = self.rows[row]
        own[P_PLACES] = own[P_FREE] = pool.places
        own[P_PATIENCE], own[P_SEATS], own[P_BOUND] = pool.patience_ns, seats, UNBOUNDED
        if pool.admits is not None and not pool.admits(pool.places, MOST_WAITING):
            own[P_BOUND] = next((n for n in range(MOST_WAITING) if not pool.admits(pool.places, n)), UNBOUNDED)
        return row

    def count_responses(self) -> None:
        """Count responses by route, second and time: `responses`, int64, shape (routes, seconds, BUCKETS)."""
        self.responses = zeros(len(ROUTES), self.cpu.shape[1], BUCKETS)

    def route(self, name: str, steps: tuple[Step, ...]) -> None:
        """Set the program of a route."""
        self.routes[ROUTES.index(name), ROUTE_CODE] = self.linker.program(steps)

    # ---- running -------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Make the tables of the code, after the last program is linked."""
        self.code, self.shares, self.laws = self.linker.tables()

    def play(self, until_ns: int) -> int:
        """Play everything before `until_ns`; return REACHED or SIGNAL. Raises Overflow if a table is full."""
        while True:
            stopped = int(kernel.run(
                until_ns, self.rows, self.floats, self.contexts, self.heap, self.rings, self.code, self.shares, self.units,
                self.laws, self.tape, self.routes, self.users, self.tweets, self.edges, self.extra, self.windows, self.knobs,
                self.flights, self.items, self.effects, self.cpu, self.work, self.slowness, self.responses, self.trace,
                self.load_s,
            ))  # fmt: skip
            if stopped == OVERFLOW:
                raise Overflow(f"The compiled engine ran out of room at {self.rows[0, NOW] / NS:.3f} s: one instant needed more "
                               f"than {kernel.MARGIN} rows, or a job held more than {MOST_HELD} slots.")
            if stopped != GROW:
                return stopped
            self._grow()

    def _grow(self) -> None:
        """Double the tables that are nearly full."""
        for name, used in (("rows", USED), ("contexts", CONTEXTS), ("heap", HEAP), ("effects", EFFECTS), ("trace", TRACED)):
            table = getattr(self, name)
            if len(table) and self.rows[0, used] > len(table) - kernel.MARGIN:
                grown = zeros(2 * len(table), *table.shape[1:])
                grown[: len(table)] = table
                setattr(self, name, grown)

    def open(self, steps: tuple[Step, ...], due_ns: Iterable[int]) -> None:
        """Let requests of one program, without deadlines, arrive at `due_ns`, and play all of them."""
        due = np.asarray(list(due_ns), np.int64)
        self.tape = np.zeros((len(due), 5), np.int64)
        self.tape[:, TAPE_DUE] = due
        self.contexts = zeros(max(len(self.contexts), len(due) + 2 * kernel.MARGIN), CONTEXT_WIDTH)
        self.routes[0, ROUTE_CODE] = self.linker.program(steps)
        self.ready()
        self.start()
        self.play(1 << 62)

    def start(self) -> None:
        """Plan the first arrival."""
        if len(self.tape):
            push(self.rows, self.heap, self.rings, int(self.tape[0, TAPE_DUE]), ARRIVAL, 0)

    def read_process(self, name: str, process: Process) -> None:
        """Copy what a process did into that of the reference engine."""
        own = self.rows[self.processes[name]]
        number, tally = own[N_NUMBER], process.tally
        process.demand_ns, process.cpu_ns = int(own[N_DEMAND]), self.cpu[number].tolist()
        tally.area_ns, tally.arrivals, tally.completions = int(own[N_AREA]), int(own[N_ARRIVALS]), int(own[N_COMPLETIONS])
        tally.inside, tally.lost, tally.sojourn_ns = int(own[N_INSIDE]), int(own[N_LOST]), int(own[N_SOJOURN])
        if process.amortization is not None:
            process.amortization.most, process.amortization.beyond_s = self.floats[number, [A_MOST, A_BEYOND]].tolist()

    def crash(self, process: int, status: int, loops: Iterable[int]) -> None:
        """Kill a process; the tasks inside fail with `status`, and its consumers stop."""
        kernel.crash(self.rows, self.heap, self.rings, process, status)
        for loop in loops:
            kernel.stop(self.rows, self.contexts, loop)

    def restart(self, process: int, loops: Iterable[int]) -> None:
        """Start a process again."""
        self.rows[process, N_DOWN] = 0
        for loop in loops:
            kernel.resume(self.rows, self.rings, loop)

    def set_policies(self, policies: Policies) -> None:
        """Set the knobs of the decisions."""
        retry, breaker, fanout, shed = policies.retry, policies.breaker, policies.fanout, policies.shed
        values = {
            model.SHED_TARGET: shed.queue_target_s, model.SHED_INTERVAL: shed.queue_interval_s,
            model.PUSH_LIMIT: fanout.push_limit, model.HYSTERESIS: fanout.hysteresis,
            model.MODE_TTL: policies.timeline.mode_ttl_s, model.CHUNK: fanout.chunk,
            model.CAP: policies.timeline.cap, model.PRIVACY_TTL: policies.cache.privacy_ttl_s,
            model.WINDOW: policies.limits.window_s or 1.0, model.RETRY_ATTEMPTS: retry.attempts, model.RETRY_BASE: retry.base_s,
            model.RETRY_MOST: retry.max_s, model.RETRY_BUDGET: retry.budget, model.BREAKER_FAILURES: breaker.failures,
            model.BREAKER_OPEN: breaker.open_s, model.CLIENT_TOKENS: Budget(retry).tokens, model.CREDIT: 1.0,
        }  # fmt: skip
        for column, value in values.items():
            self.knobs[column] = value

    def ended(self) -> list[tuple[int, int]]:
        """Return (response ns, status: 0 for success) of the requests that have ended, in order of departure."""
        rows = self.contexts[: self.rows[0, CONTEXTS]]
        done = rows[(rows[:, C_DONE] >= 0) & (rows[:, C_ORDER] > 0)]
        done = done[np.argsort(done[:, C_DONE], kind="stable")]
        took, status = done[:, C_DONE] - done[:, C_DUE], np.where(done[:, C_STATUS] == 200, 0, done[:, C_STATUS])
        return list(zip(took.tolist(), status.tolist(), strict=True))

    def steps(self) -> list[tuple[int, int, str]]:
        """Return the traced steps: (ns, key of the job, kind of step)."""
        rows = self.trace[: self.rows[0, TRACED]].tolist()
        return [(at, key, TRACED_AS[op]) for at, key, op in rows]


def push(rows: Any, heap: Any, rings: Any, at_ns: int, kind: int, argument: int) -> None:
    """Plan an event from Python."""
    wait_ns = at_ns - int(rows[0, NOW])
    if wait_ns <= 0:
        at = int(rows[0, SOON_TAIL]) & (rings.shape[1] - 1)
        rings[1, at, :3] = kind, argument, 0
        rows[0, SOON_TAIL] += 1
        return
    place = int(rows[0, HEAP])
    while place > 0 and heap[(place - 1) >> 1, 0] > at_ns:
        heap[place] = heap[(place - 1) >> 1]
        place = (place - 1) >> 1
    heap[place] = at_ns, rows[0, SEQUENCE], kind, argument, 0
    rows[0, SEQUENCE] += 1
    rows[0, HEAP] += 1

