"""Both engines are one model: the same steps at the same nanosecond, for each kind of step and for the whole model."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios import loader, spec, workload
from scenarios.world import population
from sim import calibration
from sim.compiled import events, host, jobs, kernel, load, model, sources, world
from sim.compiled.layout import BUSY_NS
from sim.compiled.machine import Machine
from sim.compiled.replication import CompiledReplication
from sim.disciplines import ProcessorSharing
from sim.engine import Engine
from sim.guards import ServiceGuard
from sim.jobs import Chance, Context, Numbers, Unit
from sim.program import (
    Acquire,
    Branch,
    Call,
    Cpu,
    Delay,
    Each,
    Fail,
    Flush,
    Loop,
    Once,
    Parallel,
    Release,
    Step,
    UnknownStep,
)
from sim.queues import GroupCommit
from sim.reference import Played, ReferenceReplication
from sim.resources import Host, Pool
from sim.speed import CoreSpeed
from sim.state import Seeded
from sim.stations import Amortization
from sim.streams import Stream, exponential, lognormal, quantiles
from system.kernel.policies import BreakerKnobs, Policies, RetryKnobs
from tests.helpers import twin_harness as harness
from tests.helpers.predictions import CALM, SHORT, asked

ROOT = Path(__file__).resolve().parents[2]
SEED, REQUESTS, GAP_NS = 5, 300, 1_900_000
WORK, OTHER = Cpu("loop", "work"), Cpu("threads", "work")
WAIT = Delay("wait")

TAPES: dict[str, tuple[Step, ...]] = {
    "cpu": (WORK, OTHER, WORK),
    "cpu real-time": (Cpu("urgent", "work"), OTHER, OTHER, WORK),
    "delay": (WAIT, Delay("table"), WAIT),
    "flush": (WAIT, Flush("log"), WORK),
    "pool": (Acquire("places"), WAIT, Release("places"), WORK),
    "pool with patience": (Acquire("patient"), Delay("long"), Release("patient")),
    "pool with a full queue": (Acquire("narrow"), Delay("long"), Release("narrow")),
    "branch": (Branch("often", (WORK, WAIT), (OTHER,)), WAIT),
    "each": (Each("three", (WORK, WAIT)), OTHER),
    "each, the first": (Each("three", (WAIT, WORK), 1), OTHER),
    "each, two of which must succeed": (Each("three", (WAIT, Branch("often", (Fail(503),))), 2), OTHER),
    "parallel": (Parallel(((WORK, WAIT), (OTHER,), (WAIT,)), 2), WORK),
    "loop": (Loop("three", (WORK, WAIT)), OTHER),
    "once": (WAIT, Once("any", (Delay("long"), Branch("often", (Fail(404),)))), WORK),
    "call": (Call("service", (WORK, Branch("often", (Fail(503),)))), WAIT),
    "call, no answer": (Call("service", (WORK, Branch("often", (Fail(504),)))), WAIT),
    "fail": (WORK, Branch("often", (Fail(404),)), WAIT),
    "all": (
        Acquire("places"),
        Call("service", (Acquire("patient"), Each("three", (WORK, WAIT)), Branch("often", (Fail(503),)), Release("patient"))),
        Loop("three", (Parallel(((OTHER,), (Flush("log"),))),)),
        Release("places"),
    ),
}
"""Kind of step -> a program with it."""


def lab(host: type[Host] = Host) -> harness.Lab:
    """Return an engine with something for every kind of step to wait for."""
    made = harness.Lab(Engine(2, host), SEED)
    engine, bound = made.engine, made.engine.bindings
    for name, width in (("loop", 1), ("threads", 0), ("urgent", 1)):
        engine.node(name, width)
        bound.units[f"{name}.work"] = Unit("work", 0.001, 0.0, lognormal(0.5))
    bound.nodes["urgent"].realtime = True
    bound.nodes["threads"].off_path, bound.nodes["threads"].threaded = 0.3, True
    bound.nodes["threads"].amortization = Amortization(0.4, reference=0.1, lowest=0.01, highest=0.4)
    bound.delays |= {"wait": exponential(0.002), "long": exponential(0.02), "table": quantiles((0.0, 0.001, 0.01))}
    bound.devices["log"] = GroupCommit(engine.env, Stream(SEED, "log", exponential(0.003)))
    bound.pools |= {
        "places": Pool(engine.env, 3),
        "patient": Pool(engine.env, 4, patience_ns=25_000_000),
        "narrow": Pool(engine.env, 2, lambda running, waiting: waiting < 3),
    }
    bound.predicates["often"] = Chance(0.3)
    bound.items["three"] = Numbers(3)
    bound.keys["any"] = lambda job: "any"
    bound.guards["service"] = ServiceGuard(policies())
    return made


def policies() -> Policies:
    return Policies(retry=RetryKnobs(attempts=3, budget=0.5), breaker=BreakerKnobs(failures=4, open_s=0.05))


SHARED = (("cpu", ProcessorSharing), ("all", ProcessorSharing))


@pytest.mark.parametrize(("tape", "host"), [*((tape, Host) for tape in TAPES), *SHARED])
def test_every_kind_of_step_happens_at_the_same_nanosecond_in_both_engines(tape: str, host: type[Host]) -> None:
    """300 requests on two cores; every step of every job, and every end, in the same order."""
    steps = TAPES[tape]
    reference, compiled = lab(host), lab(host)
    due_ns = [number * GAP_NS + number * number % 1_000_003 for number in range(REQUESTS)]
    reference.engine.trace = []
    machine = Machine(compiled.engine, SEED, 60, trace=True)
    machine.set_policies(policies())

    ended = reference.at(steps, due_ns)
    machine.open(steps, due_ns)

    assert machine.steps() == reference.engine.trace
    assert sorted(machine.ended()) == sorted(ended)
    assert machine.rows[0, BUSY_NS] == reference.engine.host.busy_ns


def test_every_kind_of_step_has_a_program() -> None:
    """A new kind needs one in TAPES. Effects and topics are those of the whole model, which is compared below."""
    used = set(re.findall(r"(\w+)\(", repr(TAPES)))

    assert {kind.__name__ for kind in Step.__args__} - {"Effect", "Publish"} <= used


@pytest.mark.parametrize(
    ("step", "what"),
    [(Cpu("mars-1", "read"), "nodes"), (Flush("tape"), "devices"), (Once("moon", ()), "moon"), ("sleep", "sleep")],
)
def test_what_the_compiled_engine_lacks_is_rejected_before_the_run(step: Step, what: str) -> None:
    """It never skips a step."""
    with pytest.raises(UnknownStep, match=what):
        Machine(lab().engine, SEED, 1).open((step,), [0])


# ---- the whole model -------------------------------------------------------------------------------------

def row(ctx: Context) -> tuple[object, ...]:
    """Return all that an operation records."""
    return (ctx.index, ctx.attempt, ctx.route, ctx.user, ctx.target, ctx.due_ns, ctx.sent_ns, ctx.done_ns, ctx.status, ctx.source,
            ctx.tweet, tuple(ctx.page), ctx.gateway_ns, ctx.service_ns, ctx.store_ns, ctx.pages, ctx.retries)  # fmt: skip


def assert_equal(scenario: spec.Scenario, seed: int, costs: calibration.Calibration | None = None) -> Played:
    """Play a scenario on both engines and compare everything: each step, operation, effect, probe, process. Return the result."""
    costs = costs or calibration.load(harness.LITERATURE)
    graph = population.graph_of(scenario.population, scenario.seed)
    tape = workload.draw(scenario, graph)
    seeded = Seeded.of(scenario, graph)
    reference = ReferenceReplication(scenario, costs, seeded, seed)
    reference.engine.trace = []
    expected = reference.play(tape)
    compiled = CompiledReplication(scenario, costs, seeded, seed, trace=True)
    played = compiled.play(tape)

    # the start of an instance is a job without a request, which the compiled engine only adds to the process
    steps, known = compiled.machine.steps(), [step for step in reference.engine.trace if step[1]]
    differs = next((n for n, (one, other) in enumerate(zip(steps, known)) if one != other), None)
    around = slice(max((differs or 0) - 2, 0), (differs or 0) + 3)
    assert differs is None, f"step {differs}: compiled {steps[around]}, reference {known[around]}"
    assert len(steps) == len(known)
    assert [row(ctx) for ctx in played.operations] == [row(ctx) for ctx in expected.operations]
    assert [row(ctx) for ctx in played.nulls] == [row(ctx) for ctx in expected.nulls]
    assert played.effects == expected.effects
    assert played.probes == expected.probes
    assert played.faults == expected.faults
    assert compiled.reference.autoscaler.counts == reference.autoscaler.counts
    assert compiled.reference.autoscaler.decisions == reference.autoscaler.decisions
    for name, process in expected.nodes.items():
        own = played.nodes[name]
        assert (name, own.demand_ns, own.tally.area_ns, own.tally.arrivals, own.tally.lost) == (
            name, process.demand_ns, process.tally.area_ns, process.tally.arrivals, process.tally.lost)
    assert played.engine.host.busy_ns == expected.engine.host.busy_ns
    return played


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_model_is_equal_event_by_event(seed: int) -> None:
    """A short first_run with a cache loss: all routes, caches, rebuilds, workers, probes."""
    played = assert_equal(asked("faults=[{at: 7 s, kind: cache_loss, target: redis}]"), seed, calibration.default())

    assert any(ctx.source.startswith("rebuild") for ctx in played.operations)


WHOLE = {
    "pulled authors": (CALM, "policies.fanout.push_limit=20", "policies.timeline.mode_ttl=500 ms"),
    "kills": ("faults=[{at: 5 s, kind: kill, target: timelines-1}, {at: 6 s, kind: kill, target: fanout-1}, "
              "{at: 9 s, kind: kill, target: redis-1}, {at: 11 s, kind: kill, target: kafka-1}]",),
    "limits": (CALM, "policies.limits={window: 5 s, read: 2, user: 6}"),
    "overload": (CALM, "workload.stages.0.rate=900/s", "workload.stages.0.for=3 s", "measure.warm_up=1 s",
                 "policies.deadline.request=1 s", "policies.bulkhead.service=20", "policies.deadline.store=50 ms",
                 "policies.shed={max_in_flight: 150, queue_target: 100 ms, queue_interval: 200 ms}"),
    "a cold cache": (CALM, "population.cache=cold", "workload.stages.0.for=6 s"),
    "quotas": (CALM, "cpu_quota=0.3 core"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_rare_paths_are_equal_event_by_event(name: str) -> None:
    """Retries, breakers, refusals, dead processes, pulled authors, quotas."""
    assert_equal(asked(*WHOLE[name]), 3)


def test_protected_users_are_equal_event_by_event() -> None:
    """Requests to follow create no edge, approvals the reversed one."""
    short = [override for override in SHORT if not override.startswith("objectives")]
    mix = "workload.mix={follow_request: 30, follow_approve: 30, home: 40}"

    assert_equal(loader.load("protected_circle", (*short, CALM, "objectives=[]", mix)), 6)


def test_cores_that_change_their_speed_are_equal_event_by_event() -> None:
    """Each core is 1.5 times as slow half of the time, several times a second."""
    costs = dataclasses.replace(calibration.load(harness.LITERATURE), core_speed=CoreSpeed(1.5, 0.5, 5.0))

    assert_equal(asked(CALM), 4, costs)


def test_autoscaling_is_equal_event_by_event() -> None:
    """Instances are added and removed, one dies; each gets the same requests in both engines."""
    scenario = loader.load("evening_spike", (
        "population.users=300", "population.follows={shape: pareto, mean: 20, max: 200}",
        "workload.stages=[{for: 4 s, rate: 30/s}, {for: 8 s, rate: 260/s}, {for: 12 s, rate: 20/s}]",
        "measure.warm_up=2 s", "policies.autoscale.cpu=15 %", "faults=[{at: 9 s, kind: kill, target: tweets-1}]"))  # fmt: skip

    played = assert_equal(scenario, 2)

    assert played.autoscaler.decisions


def test_the_engine_runs_as_plain_python_too() -> None:
    """With JIT disabled indexes are checked, and a debugger can stop in it."""
    code = ("import warnings; warnings.simplefilter('ignore')\n"
            "from tests.twin import test_sim_engines as engines\n"
            "engines.REQUESTS = 40\n"
            "engines.test_every_kind_of_step_happens_at_the_same_nanosecond_in_both_engines('all', engines.Host)\n"
            "engines.assert_equal(engines.asked('faults=[{at: 1 s, kind: kill, target: redis-1}]', 'workload.stages.0.for=3 s',\n"
            "    'workload.stages.0.rate=15/s', 'measure.warm_up=0'), 1)\n")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
                          env={**os.environ, "NUMBA_DISABLE_JIT": "1"})

    assert done.returncode == 0, done.stderr[-3000:]


def test_the_cache_of_the_compiled_engine_depends_on_every_source_that_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module of the project whose functions the kernel compiles is in the hash."""
    hashed = {path for pattern in sources.COMPILED for path in sources.ROOT.glob(pattern)}
    compiled = {Path(inspect.getfile(value)) for module in (events, host, jobs, load, model, world, kernel)
                for value in vars(module).values() if hasattr(value, "py_func") for value in (value.py_func,)}

    assert compiled <= hashed
    before = sources.fingerprint()
    monkeypatch.setattr(sources, "COMPILED", sources.COMPILED[:-1])
    assert sources.fingerprint() != before
