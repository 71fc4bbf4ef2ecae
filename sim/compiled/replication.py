"""One replication on the compiled engine: `sim.reference.ReferenceReplication`, with the requests in the kernel.

The reference replication is built as always, and its bindings are translated into tables. Faults act between two calls of
the kernel, at their times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from scenarios import spec, workload
from sim import faults, services, workers
from sim.attempts import Attempts, texts
from sim.autoscaling import START_CPU_S, START_WAIT_S
from sim.calibration import Calibration
from sim.clock import call_after
from sim.compiled import kernel, world
from sim.compiled.layout import *
from sim.compiled.machine import Machine, push, zeros
from sim.compiled.model import CLIENT_ATTEMPTS, EXTRA_WIDTH, FLEET, HISTORY, INDEXED, LIMITS, ROUTES, USER_LIMIT
from sim.compiled.world import (
    TWEET_WIDTH,
    U_FIRST,
    U_FOLLOWERS,
    U_FOLLOWING,
    U_HOME,
    U_LISTS,
    U_RECENT,
    USER_WIDTH,
    W_HOT,
    W_ID,
)  # fmt: skip
from sim.fleet import Instance
from sim.model import BY_TWEET, TOPICS, EffectRow
from sim.probes import ProbeRow
from sim.program import UnknownStep
from sim.reference import BACKGROUND_TASK_S, DRAIN_S, READS, WARMED_USERS, Played, ReferenceReplication
from sim.state import Seeded
from sim.streams import NS, exponential, key_of, ns
from system.kernel import events
from system.kernel.policies import LimitKnobs
from system.services.fanout import policy as fanout_policy

OF_TWEETS = ("tweet", "like", "reply")
"""Routes whose target is a tweet."""
ROUTE_TEXTS = texts(ROUTES)
SOURCE_TEXTS = texts([source + pulled for pulled in ("", ",pull") for source in ("", "hit", "rebuild", "direct")])
"""By the code of a route, and by `C_SOURCE`."""


class SeededTables:
    """The population at the start of a run, as tables. `ids`: of the seeded tweets, ascending; tweet n is ids[n - 1]."""

    def __init__(self, seeded: Seeded) -> None:
        graph = seeded.graph
        people = graph.users + 1
        self.ids = np.sort(np.fromiter(seeded.tweets, np.int64, len(seeded.tweets)))
        self.users = np.zeros((people, USER_WIDTH), np.int64)
        for author in range(1, people):
            recent = np.searchsorted(self.ids, np.asarray(seeded.recent[author], np.int64)) + 1
            self.users[author, U_RECENT] = len(recent)
            self.users[author, U_RECENT + 1 : U_RECENT + 1 + len(recent)] = recent
        base = people + 3
        self.users[:, U_FOLLOWING] = base + graph.following_start[:people]
        self.users[:, U_FOLLOWERS] = base + len(graph.following) + graph.follower_start[:people]
        for column, start in ((U_FOLLOWING, graph.following_start), (U_FOLLOWERS, graph.follower_start)):
            self.users[:, column + 1] = self.users[:, column + 2] = np.diff(start)[:people]
        used = base + 2 * len(graph.following)
        self.edges = np.concatenate([[used, used], base + graph.following_start[: people + 1], graph.following, graph.followers])
        world.first_pages(self.users, self.edges)


@dataclass
class _Arrived:
    """The first task in the queue of a process."""

    arrived_ns: int


class CompiledReplication:
    """Builds the tables for one seed and plays the tape. Raises UnknownStep for what the engine does not have."""

    def __init__(self, scenario: spec.Scenario, calibration: Calibration, seeded: Seeded, seed: int, count_work: bool = False,
                 slowness: Callable[[float], float] | None = None, trace: bool = False) -> None:
        self.reference = ReferenceReplication(scenario, calibration, seeded, seed, fill=False)
        self.scenario, self.seeded, self.seed = scenario, seeded, seed
        if seeded.tables is None:
            seeded.tables = SeededTables(seeded)
        self.tables: SeededTables = seeded.tables
        self.machine = machine = Machine(self.reference.engine, seed, self.reference.seconds, trace=trace)
        machine.set_policies(scenario.policies)
        if slowness is not None:
            machine.slowness = np.asarray([slowness(float(second)) for second in range(self.reference.seconds)])
        machine.load_s = scenario.workload.load_s
        self.faults: list[faults.FaultWindow] = []
        self.topics: list[str] = []
        self.instances: dict[Instance, int] = {}
        self.limits: dict[str, tuple[object, object]] = {}
        self.started: dict[int, Callable[[], None]] = {}
        self.reference.autoscaler.start_process = self._start_process
        self.end_pc = machine.linker.program(())
        self.loops: dict[str, list[int]] = {}
        self._add_topics()
        self._add_fleets()
        for name, steps in {**services.ROUTES, "null": services.NULL}.items():
            machine.route(name, steps)
        for consumer in workers.CONSUMERS:
            self._add_loop(consumer)
        self._set_knobs(calibration)
        if count_work:
            machine.work = np.zeros((len(machine.units), self.reference.seconds, 2))
        machine.ready()
        if machine.rows[0, BACKGROUND]:
            kernel.start_background(machine.rows, machine.heap, machine.rings, machine.laws)

    # ---- building ------------------------------------------------------------------------------------

    def _add_topics(self) -> None:
        machine, rows = self.machine, self.machine.rows
        for consumer in workers.CONSUMERS:
            for topic, _ in consumer.bodies:
                if topic not in self.topics:
                    self.topics.append(topic)
                    row = machine.numbers["topics"][topic] = machine.new()
                    rows[row, TOPIC_DISTINCT], rows[row, TOPIC_NUMBER] = topic in BY_TWEET, len(self.topics) - 1
        for number, name in enumerate(ROUTES):
            machine.routes[number, ROUTE_IS_READ] = name in READS
            machine.routes[number, ROUTE_TOPIC] = machine.numbers["topics"][TOPICS.get(name, events.NEW_FOLLOW)]

    def _add_fleets(self) -> None:
        for service in FLEET:
            self._set_fleet(service)

    def _set_fleet(self, service: str) -> None:
        """Set the instances of a service, in their order; new ones get rows."""
        fleet, rows = int(self.machine.rows[0, FLEETS]) + FLEET[service], self.machine.rows
        instances = self.reference.model.fleets[service].instances
        if len(instances) > MOST_INSTANCES:
            raise UnknownStep(f"The compiled engine has room for {MOST_INSTANCES} instances of a service.")
        rows[fleet, S_COUNT] = len(instances)
        for place, instance in enumerate(instances):
            if instance not in self.instances:
                self.instances[instance] = self._add_instance(service, instance)
            rows[fleet, S_FIRST + place] = self.instances[instance]
            rows[self.instances[instance], I_OPEN] = instance.open

    def _add_instance(self, service: str, instance: Instance) -> int:
        machine, rows, process = self.machine, self.machine.rows, instance.node
        if process.name not in machine.processes:
            machine.add_process(process.name, process)
        own = machine.processes[process.name]
        rows[own, N_DOWN], machine.floats[rows[own, N_NUMBER], ABOVE_SINCE] = 0, -1.0
        row = machine.new()
        rows[row, I_PROCESS], rows[row, I_SEATS] = own, machine.add_pool(instance.seats, True)
        for slot, (name, pool) in enumerate(instance.pools.items()):
            rows[row, I_SLOTS + slot] = machine.add_pool(pool)
            machine.linker.slots[name] = (FLEET[service], slot)
        self.limits[process.name] = (process.quota, process.amortization)
        return row

    def _add_loop(self, consumer: Any) -> None:
        machine, rows, linker = self.machine, self.machine.rows, self.machine.linker
        row = machine.new()
        own = rows[row]
        own[L_KEY] = key_of(self.seed, f"group {consumer.group}")
        own[L_LAW] = linker.law(self.reference.engine.bindings.delays[consumer.poll_delay])
        own[L_LANES], own[L_BATCH], own[L_IDLE], own[L_LAST] = consumer.lanes, consumer.batch, 1, -1
        own[L_GATHER] = ns(self.reference.gather_s.get(consumer.group, 0.0))
        own[L_BEGIN] = linker.program(consumer.begin) if consumer.begin else -1
        own[L_COMMIT] = linker.program(consumer.commit) if consumer.commit else -1
        for topic, body in consumer.bodies:
            place = machine.numbers["topics"][topic]
            own[MEMBERS + rows[place, TOPIC_NUMBER]] = linker.program(body)
            rows[place, TOPIC_FIRST + rows[place, TOPIC_LOOPS]] = row
            rows[place, TOPIC_LOOPS] += 1
        self.loops.setdefault(consumer.node, []).append(row)

    def _set_knobs(self, calibration: Calibration) -> None:
        machine, rows, policies = self.machine, self.machine.rows, self.scenario.policies
        machine.knobs[CLIENT_ATTEMPTS] = policies.retry.attempts
        machine.knobs[HISTORY] = self.scenario.population.history_tweets
        rows[0, DEADLINE_NS] = ns(policies.deadline.request_s)
        rows[0, REDIS] = machine.processes["redis-1"]
        rows[0, START_MS] = self.reference.world.start_ms
        cores = sum(calibration.background_cores.values())
        rows[0, BACKGROUND] = cores > 0.0
        rows[0, BACKGROUND_KEY] = key_of(self.seed, "background")
        rows[0, BACKGROUND_PAUSES] = key_of(self.seed, "background pauses")
        rows[0, BACKGROUND_LAW] = machine.linker.law(exponential(BACKGROUND_TASK_S))
        rows[0, PAUSE_LAW] = machine.linker.law(exponential(BACKGROUND_TASK_S / (cores or 1.0)))
        if policies.limits == LimitKnobs():
            return
        machine.windows = np.zeros(((len(ROUTES) + 1) * (self.seeded.graph.users + 1), 26), np.int64)
        machine.knobs[USER_LIMIT] = policies.limits.user if policies.limits.window_s else 0
        for number, name in enumerate(ROUTES):
            route = services.LIMITED.get(name)
            limit = -1 if route is None else getattr(policies.limits, route.limit_class) if policies.limits.window_s else 0
            machine.knobs[LIMITS + number] = limit
            counted = name if route is None or route.name not in ROUTES else route.name
            machine.knobs[LIMITS + len(ROUTES) + number] = ROUTES.index(counted)

    def fill(self, tape: workload.Tape) -> None:
        """Copy the population and the tape, and plan the first arrival. Called by `play`."""
        machine, tables, scenario = self.machine, self.tables, self.scenario
        count = len(tape)
        names = [ROUTES.index(name) for name in tape.routes]
        machine.contexts = zeros(max(len(machine.contexts), 4 * count), CONTEXT_WIDTH)
        machine.tape = np.zeros((count, 5), np.int64)
        machine.tape[:, TAPE_DUE], machine.tape[:, TAPE_USER] = tape.due_ns, tape.user
        machine.tape[:, TAPE_ROUTE] = np.asarray(names)[tape.route]
        machine.tape[:, TAPE_TARGET], machine.tape[:, TAPE_SECOND] = tape.target, tape.second_page
        tweets = np.isin(tape.route, [number for number, name in enumerate(tape.routes) if name in OF_TWEETS]) & (tape.target > 0)
        machine.tape[tweets, TAPE_TARGET] = np.searchsorted(tables.ids, tape.target[tweets]) + 1
        words = tape.target[tape.route == tape.routes.index("search")] if "search" in tape.routes else np.zeros(0, np.int64)
        machine.extra = np.zeros((2 * count + int(words.max(initial=0)) + 8, EXTRA_WIDTH), np.int64)
        machine.users = zeros(*tables.users.shape)
        machine.users[:] = tables.users
        machine.tweets = zeros(len(tables.ids) + count + 2, TWEET_WIDTH)
        machine.tweets[1 : len(tables.ids) + 1, W_ID] = tables.ids
        machine.edges = np.concatenate([tables.edges, np.zeros(len(tables.edges) + 64 * count + len(machine.users), np.int64)])
        machine.flights = np.zeros(4 * len(machine.users) + 2 * len(machine.floats), np.int64)
        machine.items = np.zeros((int(machine.users[:, U_FOLLOWING + 1].max()) + count + 8, 2), np.int64)
        machine.rows[0, NEXT_TWEET], machine.rows[0, PLANNED] = len(tables.ids) + 1, count
        if scenario.population.cache == "warm" and self.seeded.graph.users <= WARMED_USERS:
            machine.users[1:, U_LISTS : U_LISTS + 4] = 1
            machine.users[1:, U_HOME : U_HOME + PAGE + 1] = machine.users[1:, U_FIRST : U_FIRST + PAGE + 1]
            machine.tweets[1 : len(tables.ids) + 1, W_HOT] = 1
        if scenario.measure.warm_caches:
            self._read_once(np.unique(tape.user[tape.route == tape.routes.index("home")]).tolist())
        machine.start()
        push(machine.rows, machine.heap, machine.rings, 0, NULL_DUE, 0)

    def _read_once(self, viewers: list[int]) -> None:
        """As `sim.state.World.read_once`."""
        machine = self.machine
        users, edges = machine.users, machine.edges
        for viewer in viewers:
            start, many = users[viewer, U_FOLLOWING : U_FOLLOWING + 2]
            users[viewer, U_LISTS + world.FOLLOWING] = users[viewer, U_LISTS + world.AUTHOR] = users[viewer, U_LISTS] = 1
            users[edges[start : start + many], U_LISTS + world.AUTHOR] = 1
            users[viewer, U_HOME : U_HOME + PAGE + 1] = users[viewer, U_FIRST : U_FIRST + PAGE + 1]
            machine.tweets[users[viewer, U_HOME + 1 : U_HOME + 1 + users[viewer, U_HOME]], W_HOT] = 1

    # ---- running -------------------------------------------------------------------------------------

    def play(self, tape: workload.Tape) -> Played:
        """Play the whole tape, drain what is in flight, and return the results."""
        machine, end_ns = self.machine, ns(self.scenario.workload.load_s + DRAIN_S)
        self.fill(tape)
        control = faults.Faults(self.reference.engine, Plant(self))
        for fault in self.scenario.faults_in_load:
            control.plan(fault)
        env = self.reference.engine.env
        while env.peek() < end_ns:
            if machine.play(int(env.peek())) == SIGNAL:
                self._signalled()
            else:
                self._pull()
                env.step()
                self._push()
        while machine.play(end_ns) == SIGNAL:
            self._signalled()
        return self._played(control)

    # ---- control: once per simulated second, and at faults ---------------------------------------------

    def _pull(self) -> None:
        """Let the reference engine's objects show what the control loops look at."""
        rows = self.machine.rows
        for instance, row in self.instances.items():
            process, seats, node = rows[rows[row, I_PROCESS]], rows[rows[row, I_SEATS]], instance.node
            node.down, node.demand_ns = bool(process[N_DOWN]), int(process[N_DEMAND])
            node.queue.clear()
            if process[N_QUEUE]:
                node.queue.append(_Arrived(int(rows[process[N_QUEUE], T_ARRIVED])))  # type: ignore[arg-type]
            instance.seats.free, instance.seats.queue = int(seats[P_FREE]), deque([None] * int(seats[P_WAITING]))  # type: ignore[list-item]
            instance.seats.answers, instance.seats.errors = int(seats[P_ANSWERS]), int(seats[P_ERRORS])

    def _push(self) -> None:
        """Apply what the control loops changed: instances, what they accept, quotas."""
        if not self.scenario.policies.autoscale.max:
            return
        for service in FLEET:
            self._set_fleet(service)
            for instance in self.reference.model.fleets[service].instances:
                process, known = instance.node, self.limits[instance.node.name]
                if process.quota is not known[0]:
                    self.machine.set_quota(process)
                if process.amortization is not known[1]:
                    self.machine.set_costs(process)
                self.limits[process.name] = (process.quota, process.amortization)

    def _start_process(self, name: str, healthy: Callable[[], None]) -> None:
        """Let a new process use the CPU of its start; `healthy()` once the mesh may send it requests."""
        machine = self.machine
        service = next(one for one in FLEET if one.rpartition("-")[0] == name.rpartition("-")[0])
        self._set_fleet(service)
        machine.set_quota(self.reference.engine.bindings.nodes[name])
        signal = kernel.begin(machine.rows, machine.floats, machine.heap, machine.rings, machine.slowness,
                              machine.processes[name], START_CPU_S, self.end_pc)
        self.started[int(signal)] = healthy

    def _signalled(self) -> None:
        """Processes have started."""
        machine, env = self.machine, self.reference.engine.env
        if machine.rows[0, NOW] > env.now:
            env.run(until=int(machine.rows[0, NOW]))
        signal = int(machine.rows[0, SIGNALS])
        machine.rows[0, SIGNALS] = 0
        while signal:
            call_after(env, ns(START_WAIT_S), lambda event: event.value(), self.started.pop(signal))
            signal = int(machine.rows[signal, NEXT])

    def _played(self, control: faults.Faults) -> Played:
        machine, reference = self.machine, self.reference
        for name, process in reference.engine.bindings.nodes.items():
            machine.read_process(name, process)
        host = reference.engine.host
        host.busy_ns, host.done_ns, host.background_ns = (int(machine.rows[0, one]) for one in (BUSY_NS, DONE_NS, BACKGROUND_NS))
        rows = machine.contexts[: machine.rows[0, CONTEXTS]]
        operations = rows[rows[:, C_ORDER] > 0]
        operations = operations[np.argsort(operations[:, C_ORDER])]
        nulls = rows[(rows[:, C_ROUTE] == ROUTES.index("null")) & (rows[:, C_DONE] >= 0)]
        nulls = nulls[np.argsort(nulls[:, C_DONE], kind="stable")]
        counted = {name: (machine.work[number, :, 0].tolist(), machine.work[number, :, 1].tolist())
                   for number, name in enumerate(machine.numbers["units"])} if len(machine.work) else {}
        return Played(
            self._attempts(operations), self._effects(), control.done, reference.engine.bindings.nodes, reference.engine,
            reference.model, self._pairs(), self._attempts(nulls), reference.autoscaler, counted,
        )  # fmt: skip

    def _attempts(self, rows: Any) -> Attempts:
        """Return the rows of requests as columns."""
        ids = self.machine.tweets[:, W_ID]
        of_tweet = np.isin(rows[:, C_ROUTE], [ROUTES.index(route) for route in OF_TWEETS])
        target = rows[:, C_TARGET].copy()
        target[of_tweet] = ids[target[of_tweet]]
        numbers = {
            "index": rows[:, C_INDEX], "attempt": rows[:, C_ATTEMPT], "user": rows[:, C_USER], "target": target,
            "due_ns": rows[:, C_DUE], "sent_ns": rows[:, C_SENT], "done_ns": rows[:, C_DONE], "status": rows[:, C_STATUS],
            "retries": rows[:, C_RETRIES], "pages": rows[:, C_PAGES], "gateway_ns": rows[:, C_GATEWAY],
            "service_ns": rows[:, C_SERVICE], "store_ns": rows[:, C_STORE], "tweet": ids[rows[:, C_TWEET]],
        }  # fmt: skip
        return Attempts(numbers, ROUTE_TEXTS[rows[:, C_ROUTE]], SOURCE_TEXTS[rows[:, C_SOURCE]],
                        (ids[rows[:, C_PAGE : C_PAGE + PAGE]], rows[:, C_PAGED]))

    def _effects(self) -> list[EffectRow]:
        """Return the workers' effect log."""
        machine, ids = self.machine, self.machine.tweets[:, W_ID]
        made = []
        for ctx, path, targets, at_ns in machine.effects[: machine.rows[0, EFFECTS]].tolist():
            tweet = str(ids[machine.contexts[ctx, C_TWEET]])
            if path == INDEXED:
                topic = self.topics[machine.rows[machine.contexts[ctx, C_TOPIC], TOPIC_NUMBER]]
                made.append(EffectRow("indexer", topic, tweet, "index", targets, at_ns / NS))
            else:
                made.append(EffectRow("fanout", events.NEW_TWEET, tweet, fanout_policy.NAMES[path], targets, at_ns / NS))
        return made

    def _pairs(self) -> list[ProbeRow]:
        """Return the pairs that were polled, in order of their end."""
        rows, ids, made = self.machine.rows, self.machine.tweets[:, W_ID], []
        pair = int(rows[0, SEEN_PAIRS])
        while pair:
            row = rows[pair]
            seen_s = row[R_SEEN] / NS if row[R_SEEN] >= 0 else -1.0
            made.append(ProbeRow(int(ids[row[R_TWEET]]), int(row[R_FOLLOWER]), float(seen_s), float(row[R_GAP] / NS)))
            pair = int(row[NEXT])
        return made


class Plant:
    """What faults act on."""

    def __init__(self, replication: CompiledReplication) -> None:
        self._replication, self._machine = replication, replication.machine
        self.nodes = replication.reference.engine.bindings.nodes

    def keys(self) -> int:
        """Return the number of keys in the cache."""
        return int(self._machine.users[1:, U_LISTS : U_LISTS + 4].sum() + self._machine.tweets[:, W_HOT].sum())

    def lose_cache(self) -> None:
        """Empty the cache."""
        self._machine.rows[0, LOSSES] += 1
        self._machine.users[:, U_LISTS : U_LISTS + 4] = 0
        self._machine.tweets[:, W_HOT] = 0

    def crash(self, name: str, status: int) -> None:
        """Kill a process, and stop its consumers."""
        machine = self._machine
        machine.crash(machine.processes[name], status, self._replication.loops.get(name, ()))

    def restart(self, name: str) -> None:
        """Start the process again."""
        machine = self._machine
        machine.restart(machine.processes[name], self._replication.loops.get(name, ()))
