"""The SimPy engine: walks jobs through their programs, one instruction after the other.

The reference engine of the twin. A job is a position in a program (`code`, `pc`); an instruction either
continues immediately or leaves the job with a station that resumes it later. Only CPU completions, delays and
timers are SimPy events, so a request costs about one event per slice of CPU.

Names in a program are bound by `Engine.link`; an undefined name is an `UnknownStep` at the start, not during
the run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import simpy

from sim.host import Host, ProcessorSharing, call_after
from sim.jobs import (
    GATEWAY_TIMEOUT,
    OF_MESH,
    REFUSED,
    Bindings,
    Context,
    Frame,
    Guard,
    Job,
    Join,
    Linked,
    PoolSource,
    Unit,
)  # fmt: skip
from sim.program import Code, UnknownStep
from sim.queues import GroupCommit, PollLoop, Pool
from sim.stations import Node


class Engine:
    """Runs linked programs on a SimPy environment.

    `cores`: of the shared CPU. `host(env, cores)`: its discipline; by default processor sharing, less the constant
    `background_cores`.
    """

    def __init__(self, cores: float, background_cores: float = 0.0,
                 host: Callable[[simpy.Environment, float], Host] | None = None) -> None:
        self.env = simpy.Environment()
        self.host = host(self.env, cores) if host is not None else ProcessorSharing(self.env, cores, background_cores)
        self.bindings = Bindings()
        self.groups: dict[str, list[PollLoop]] = {}
        self.flights: dict[Any, list[Job]] = {}
        self._deadlines: deque[tuple[float, Context]] = deque()
        self._on_deadline: Callable[[Context], None] | None = None
        self._resume = lambda event: self.advance(event._value)
        self._handlers: dict[str, Callable[..., bool]] = {
            "acquire": self._acquire, "branch": self._branch, "call": self._call, "cpu": self._cpu,
            "cpu_at": lambda job, fleet, unit, size: self._cpu(job, fleet.node_of(job), unit, size),
            "delay": self._delay, "each": self._each, "effect": self._effect, "end": self._end, "fail": self._fail,
            "flush": self._flush,
            "jump": self._jump, "loop": self._loop, "next": self._next, "once": self._once, "parallel": self._parallel,
            "publish": self._publish, "release": self._release, "returned": self._returned,
        }  # fmt: skip

    # ---- building ------------------------------------------------------------------------------------

    def node(self, name: str, width: int) -> Node:
        """Add a process: `width` 1 for an event loop or a single thread, 0 for any number of threads."""
        self.bindings.nodes[name] = Node(self.env, self.host, name, width, self.advance)
        return self.bindings.nodes[name]

    def refuse(self, job: Job) -> None:
        """Fail a job that waited too long for a slot."""
        assert job.held is not None
        job.held.pop()
        self.fail(job, OF_MESH)

    def device(self, name: str, draw: Callable[[], float]) -> None:
        """Add a device that flushes writes; `draw()`: seconds of one flush."""
        self.bindings.devices[name] = GroupCommit(self.env, draw, self.advance)

    def pool(self, name: str, places: int, admits: Callable[[int, int], bool] | None = None) -> Pool:
        """Add a pool of `places`; `admits(running, waiting)` decides whether a job may wait, None: always."""
        pool = self.bindings.pools[name] = Pool(self.env, name, places, admits, self.advance)
        return pool

    def link(self, code: Code) -> Linked:
        """Bind every name in `code`. Raises UnknownStep for an unknown operation or name."""
        return [self._linked(instruction.op, instruction.args) for instruction in code]

    def _linked(self, op: str, args: tuple[Any, ...]) -> tuple[Callable[..., bool], Any, Any, Any]:
        b = self.bindings
        if op not in self._handlers:
            raise UnknownStep(f"Operation `{op}` is not known to this engine; known: {', '.join(sorted(self._handlers))}.")
        if op == "cpu" and args[0] in b.fleets:
            op = "cpu_at"

        table: dict[str, Callable[[], list[Any]]] = {
            "cpu": lambda: [self.bound(b.nodes, args[0], "node"), *self._work(args)],
            "cpu_at": lambda: [b.fleets[args[0]], *self._work(args)],
            "delay": lambda: [self.bound(b.delays, args[0], "delay").__next__],
            "flush": lambda: [self.bound(b.devices, args[0], "device")],
            "acquire": lambda: [self.bound(b.pools, args[0], "pool")],
            "release": lambda: [self.bound(b.pools, args[0], "pool")],
            "branch": lambda: [self.bound(b.predicates, args[0], "predicate"), args[1]],
            "call": lambda: [self.bound(b.guards, args[0], "guard"), args[1]],
            "returned": lambda: [self.bound(b.guards, args[0], "guard")],
            "each": lambda: [self.bound(b.items, args[0], "list of items"), self.link(args[1]), args[2]],
            "loop": lambda: [self.bound(b.items, args[0], "list of items")],
            "parallel": lambda: [[self.link(body) for body in args[0]], args[1]],
            "once": lambda: [self.bound(b.keys, args[0], "key"), self.link(args[1])],
            "publish": lambda: [args[0], self.bound(b.events, args[0], "event of topic")],
            "effect": lambda: [self.bound(b.effects, args[0], "effect")],
        }
        bound = table.get(op, lambda: list(args))()
        bound += [None] * (3 - len(bound))
        return (self._handlers[op], bound[0], bound[1], bound[2])

    def _work(self, args: tuple[Any, ...]) -> list[Any]:
        sizes = self.bindings.sizes
        unit = self.bound(self.bindings.units, f"{args[0]}.{args[1]}", "unit").part(args[3])
        return [unit, self.bound(sizes, args[2], "size") if args[2] else None]

    @staticmethod
    def bound(table: dict[str, Any], name: str, what: str) -> Any:
        """Return the binding of `name`. Raises UnknownStep with the known names."""
        if name not in table:
            raise UnknownStep(f"No {what} is named `{name}`; known: {', '.join(sorted(table)) or 'none'}.")
        return table[name]

    # ---- running -------------------------------------------------------------------------------------

    def start(self, code: Linked, ctx: Context, on_end: Callable[[Job, int], None]) -> None:
        """Start a job now; `on_end(job, status)` is called once, with 0 if it reached its end."""
        self.advance(Job(code, ctx, None, on_end))

    def expire_after(self, seconds: float, ctx: Context, on_deadline: Callable[[Context], None]) -> None:
        """Call `on_deadline(ctx)` after `seconds` unless `ctx.ended`. All deadlines of a run must be equally long."""
        self._on_deadline = on_deadline
        self._deadlines.append((self.env.now + seconds, ctx))
        if len(self._deadlines) == 1:
            call_after(self.env, seconds, self._deadline_passed)

    def _deadline_passed(self, _event: Any) -> None:
        now = self.env.now + 1e-9
        waiting = self._deadlines
        while waiting and (waiting[0][0] <= now or waiting[0][1].ended):
            ctx = waiting.popleft()[1]
            if not ctx.ended and self._on_deadline is not None:
                self._on_deadline(ctx)
        if waiting:
            call_after(self.env, waiting[0][0] - self.env.now, self._deadline_passed)

    def advance(self, job: Job) -> None:
        """Run `job` until it waits for something or ends."""
        code = job.code
        while True:
            step = code[job.pc]
            job.pc += 1
            if not step[0](job, step[1], step[2], step[3]):
                return

    def fail(self, job: Job, status: int) -> None:
        """Fail `job` with `status`: its guarded calls may retry, else it ends and releases its slots."""
        now = self.env.now
        while job.frames:
            frame = job.frames[-1]
            pause_s = frame.guard.failed(now, frame.attempt, frame.idempotent, status)
            if job.loops:
                del job.loops[frame.loops :]
            self._give_back(job, frame.held, status)
            if pause_s is None or job.ctx.ended:
                job.frames.pop()
                continue
            frame.attempt += 1
            job.ctx.retries += 1
            job.pc = frame.start
            call_after(self.env, pause_s, self._resume, job)
            return
        self._finish(job, status)

    @staticmethod
    def _give_back(job: Job, held: int, status: int) -> None:
        """Release the slots that the job took since it held `held` of them."""
        if job.held and len(job.held) > held:
            taken = job.held[held:]
            del job.held[held:]
            for pool in taken:
                pool.release(status)

    def _finish(self, job: Job, status: int) -> None:
        job.gone = True
        self._give_back(job, 0, status)
        if job.on_end is not None:
            job.on_end(job, status)
        join = job.join
        if join is None:
            return
        if join.on_done is not None:
            join.on_done(status)
        if join.need <= 0:
            return
        if status:
            join.alive -= 1
            if join.alive < join.need:
                join.need = 0
                self.fail(join.parent, status)
            return
        join.need -= 1
        join.alive -= 1
        if join.need == 0:
            self.advance(join.parent)

    # ---- one handler per operation: True continues immediately, False waits or ends -----------------

    def _end(self, job: Job, _a: Any, _b: Any, _c: Any) -> bool:
        self._finish(job, 0)
        return False

    def _cpu(self, job: Job, node: Node, unit: Unit, size: Callable[[Job], float] | None) -> bool:
        if job.ctx.ended:
            self._finish(job, GATEWAY_TIMEOUT)
            return False
        if node.down:
            self.fail(job, node.down_status)
            return False
        if size is None:
            demand_s = unit.base_s
        else:
            items = size(job)
            demand_s = unit.base_s + unit.per_item_s * items
            if unit.sizes is not None:
                unit.sizes[int(self.env.now)] += items * unit.share
        if unit.counts is not None:
            unit.counts[int(self.env.now)] += unit.share
        if demand_s <= 0.0:
            return True
        node.submit(job, demand_s * next(unit.noise))
        return False

    def _delay(self, job: Job, draw: Callable[[], float], _b: Any, _c: Any) -> bool:
        seconds = draw()
        if seconds <= 0.0:
            return True
        call_after(self.env, seconds, self._resume, job)
        return False

    def _flush(self, job: Job, device: GroupCommit, _b: Any, _c: Any) -> bool:
        device.flush(job)
        return False

    def _acquire(self, job: Job, source: PoolSource, _b: Any, _c: Any) -> bool:
        pool = source.entered(job)
        taken = pool.acquire(job)
        if taken is None:
            self.fail(job, REFUSED)
            return False
        if job.held is None:
            job.held = []
        job.held.append(pool)
        return taken

    def _release(self, job: Job, source: PoolSource, _b: Any, _c: Any) -> bool:
        pool = source.left(job)
        if job.held:
            job.held.remove(pool)
        pool.release()
        return True

    def _branch(self, job: Job, when: Callable[[Job], bool], target: int, _c: Any) -> bool:
        if not when(job):
            job.pc = target
        return True

    def _jump(self, job: Job, target: int, _b: Any, _c: Any) -> bool:
        job.pc = target
        return True

    def _effect(self, job: Job, apply: Callable[[Job], None], _b: Any, _c: Any) -> bool:
        apply(job)
        return True

    def _fail(self, job: Job, status: int, _b: Any, _c: Any) -> bool:
        self.fail(job, status)
        return False

    def _call(self, job: Job, guard: Guard, idempotent: bool, _c: Any) -> bool:
        # A retry starts here with its frame still on top: the breaker is checked again.
        frames = job.frames
        if frames is None:
            frames = job.frames = []
        if not frames or frames[-1].start != job.pc - 1:
            frames.append(Frame(guard, job.pc - 1, idempotent, len(job.loops or ()), len(job.held or ())))
        if guard.admit(self.env.now, frames[-1].attempt):
            return True
        frames.pop()
        self.fail(job, REFUSED)
        return False

    def _returned(self, job: Job, guard: Guard, _b: Any, _c: Any) -> bool:
        assert job.frames is not None
        job.frames.pop()
        guard.succeeded(self.env.now)
        return True

    def _each(self, job: Job, items: Callable[[Job], Sequence[Any]], body: Linked, need: int) -> bool:
        todo = items(job)
        if not todo:
            return True
        join = Join(job, need or len(todo), len(todo))
        for item in todo:
            child = Job(body, job.ctx, join, None)
            child.item = item
            self.advance(child)
        return False

    def _parallel(self, job: Job, bodies: list[Linked], need: int, _c: Any) -> bool:
        join = Join(job, need or len(bodies), len(bodies))
        for body in bodies:
            child = Job(body, job.ctx, join, None)
            child.item = job.item
            self.advance(child)
        return False

    def _loop(self, job: Job, items: Callable[[Job], Sequence[Any]], _b: Any, _c: Any) -> bool:
        if job.loops is None:
            job.loops = []
        job.loops.append(iter(items(job)))
        return True

    def _next(self, job: Job, end: int, _b: Any, _c: Any) -> bool:
        assert job.loops is not None
        try:
            job.item = next(job.loops[-1])
        except StopIteration:
            job.loops.pop()
            job.pc = end
        return True

    def _once(self, job: Job, key: Callable[[Job], Any], body: Linked, _c: Any) -> bool:
        name = key(job)
        if name is None:
            return True
        if name in self.flights:
            self.flights[name].append(job)
            return False
        self.flights[name] = []
        child = Job(body, job.ctx, Join(job, 1, 1, lambda status: self._landed(name, status)), None)
        child.item = job.item
        self.advance(child)
        return False

    def _landed(self, name: Any, status: int) -> None:
        for waiter in self.flights.pop(name):
            if status:
                self.fail(waiter, status)
            else:
                self.advance(waiter)

    def _publish(self, job: Job, topic: str, event: Callable[[Job], tuple[int, Context]], _c: Any) -> bool:
        if self.groups.get(topic):
            self.append(topic, lambda: event(job))
        return True

    def append(self, topic: str, event: Callable[[], tuple[int, Context]]) -> None:
        """Append an event to `topic`; each consumer group gets a context of its own from `event()`."""
        for loop in self.groups.get(topic, ()):
            key, ctx = event()
            ctx.topic = topic
            loop.append(key, ctx)
