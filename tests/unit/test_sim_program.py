"""The program language of the twin: bound names, early errors, and what each kind of step does."""

from __future__ import annotations

from typing import Any

import pytest

from sim.disciplines import ProcessorSharing
from sim.engine import Engine
from sim.jobs import Context, Job, Unit
from sim.program import Acquire, Branch, Call, Cpu, Delay, Fail, Loop, Parallel, Release, Step, UnknownStep
from sim.resources import Pool
from sim.streams import NS, constant


def start(engine: Engine, *steps: Step) -> list[tuple[float, int]]:
    """Start a job; the list contains its end (s) and status after the engine has run."""
    ended: list[tuple[float, int]] = []

    def request() -> Any:
        status = yield engine.env.process(engine.run(Job(Context(0, "r", 1, 0, 0, 0), 0), engine.link(steps)))
        ended.append((engine.env.now / NS, status))

    engine.env.process(request())
    return ended


def machine(cores: int, width: int, **seconds: float) -> Engine:
    """Return an engine with one process `p` and its units of work."""
    engine = Engine(cores, ProcessorSharing)
    engine.node("p", width)
    for name, mean_s in seconds.items():
        engine.bindings.units[f"p.{name}"] = Unit(name, mean_s, 0.0, constant(1.0))
    return engine


def test_a_loop_does_its_items_one_after_the_other() -> None:
    """Three items of a second."""
    engine = Engine(1)
    engine.bindings.delays["a"] = constant(1.0)
    engine.bindings.items["three"] = lambda job: (1, 2, 3)

    ended = start(engine, Loop("three", (Delay("a"),)))
    engine.env.run()

    assert ended == [(3.0, 0)]


@pytest.mark.parametrize(("holds", "seconds"), [(True, 1.0), (False, 5.0)])
def test_a_branch_takes_the_side_that_its_predicate_names(holds: bool, seconds: float) -> None:
    """One second if it holds, else two and three."""
    engine = Engine(1)
    for name, length in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        engine.bindings.delays[name] = constant(length)
    engine.bindings.predicates["hit"] = lambda job: holds

    ended = start(engine, Branch("hit", (Delay("a"),), (Delay("b"), Delay("c"))))
    engine.env.run()

    assert ended == [(seconds, 0)]


def test_an_unknown_step_is_rejected() -> None:
    """The error lists the known steps."""
    with pytest.raises(UnknownStep, match="Branch, Call, Cpu"):
        Engine(1).link(("sleep",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "kind"),
    [(Cpu("mars-1", "read"), "node"), (Delay("tide"), "delay"), (Release("places"), "pool"), (Call("moon-1", ()), "guard")],
)
def test_an_undefined_name_is_rejected_before_the_run(step: object, kind: str) -> None:
    """The error names the kind of the missing binding."""
    with pytest.raises(UnknownStep, match=f"No {kind} is named"):
        Engine(2).link((step,))  # type: ignore[arg-type]


def test_parallel_work_on_two_cores_takes_as_long_as_its_longest_part() -> None:
    """One task never uses more than one core, so 1 s and 3 s together take 3 s on two cores."""
    engine = machine(2, 0, short=1.0, long=3.0)

    ended = start(engine, Parallel(((Cpu("p", "short"),), (Cpu("p", "long"),))))
    engine.env.run()

    assert ended == [(3.0, 0)]


def test_three_equal_tasks_share_two_cores_evenly() -> None:
    """Processor sharing: three tasks of 1 s on two cores all end after 1.5 s."""
    engine = machine(2, 0, work=1.0)

    ended = [start(engine, Cpu("p", "work")) for _ in range(3)]
    engine.env.run()

    assert [one[0][0] for one in ended] == pytest.approx([1.5, 1.5, 1.5])


def test_an_event_loop_does_one_thing_at_a_time() -> None:
    """Two tasks of 1 s in one loop end after 1 s and 2 s, however many cores are free."""
    engine = machine(8, 1, work=1.0)

    ended = [start(engine, Cpu("p", "work")) for _ in range(2)]
    engine.env.run()

    assert [one[0][0] for one in ended] == pytest.approx([1.0, 2.0])


def test_background_work_reduces_the_cores() -> None:
    """With half a core of background, three tasks of 1 s have 1.5 cores and end after 2 s."""
    engine = machine(2, 0, work=1.0)
    host = engine.bindings.nodes["p"].host = ProcessorSharing(engine.env, 2, 0.5)

    ended = [start(engine, Cpu("p", "work")) for _ in range(3)]
    engine.env.run()

    assert [one[0][0] for one in ended] == pytest.approx([2.0, 2.0, 2.0])
    assert host.busy_ns == pytest.approx(3 * NS)


def test_a_failed_step_ends_the_job_with_its_status_and_frees_its_slot() -> None:
    """A job that fails while it holds a slot in a pool releases the slot."""
    engine = Engine(1)
    pool = Pool(engine.env, 1)
    engine.bindings.pools["places"] = pool

    ended = start(engine, Acquire("places"), Fail(404))
    engine.env.run()

    assert ended == [(0.0, 404)]
    assert pool.free == 1
