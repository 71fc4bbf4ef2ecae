"""The program language of the twin: flat code, bound names, early errors."""

from __future__ import annotations

import pytest

from sim.engine import Engine
from sim.jobs import Context, Unit
from sim.program import Acquire, Branch, Call, Cpu, Delay, Fail, Instruction, Loop, Parallel, Release, UnknownStep, flatten


def test_a_branch_becomes_two_jumps_in_flat_code() -> None:
    """Nested steps flatten to one list with absolute targets, which a compiled engine can run as arrays."""
    code = flatten((Branch("hit", (Delay("a"),), (Delay("b"), Delay("c"))), Cpu("redis-1", "read")))

    assert code == (
        Instruction("branch", ("hit", 3)),
        Instruction("delay", ("a",)),
        Instruction("jump", (5,)),
        Instruction("delay", ("b",)),
        Instruction("delay", ("c",)),
        Instruction("cpu", ("redis-1", "read", "", 1.0)),
        Instruction("end"),
    )


def test_a_loop_jumps_back_to_its_next_item() -> None:
    """A loop costs no child job."""
    code = flatten((Loop("chunks", (Delay("a"),)),))

    assert [step.op for step in code] == ["loop", "next", "delay", "jump", "end"]
    assert code[1].args == (4,)
    assert code[3].args == (1,)


def test_an_unknown_step_is_rejected() -> None:
    """The error lists the known steps."""
    with pytest.raises(UnknownStep, match="Branch, Call, Cpu"):
        flatten(("sleep",))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("step", "kind"),
    [(Cpu("mars-1", "read"), "node"), (Delay("tide"), "delay"), (Release("places"), "pool"), (Call("moon-1", ()), "guard")],
)
def test_an_undefined_name_is_rejected_before_the_run(step: object, kind: str) -> None:
    """The error names the kind of the missing binding."""
    with pytest.raises(UnknownStep, match=f"No {kind} is named"):
        Engine(2.0).link(flatten((step,)))  # type: ignore[arg-type]


def test_an_operation_of_another_engine_is_rejected() -> None:
    """Code with an operation that this engine lacks does not run."""
    with pytest.raises(UnknownStep, match="`teleport`"):
        Engine(2.0).link((Instruction("teleport"),))


def test_parallel_work_on_two_cores_takes_as_long_as_its_longest_part() -> None:
    """One task never uses more than one core, so 1 s and 3 s together take 3 s on two cores."""
    engine = Engine(2.0)
    engine.node("jvm-1", 0)
    for name, seconds in (("short", 1.0), ("long", 3.0)):
        engine.bindings.units[f"jvm-1.{name}"] = Unit(name, seconds, 0.0, iter([1.0]))
    ended: list[float] = []

    code = engine.link(flatten((Parallel(((Cpu("jvm-1", "short"),), (Cpu("jvm-1", "long"),))),)))
    engine.start(code, Context(0, "r", 1, 0, 0.0), lambda job, status: ended.append(engine.env.now))
    engine.env.run()

    assert ended == [3.0]


def test_three_equal_tasks_share_two_cores_evenly() -> None:
    """Processor sharing: three tasks of 1 s on two cores all end after 1.5 s."""
    engine = Engine(2.0)
    engine.node("jvm-1", 0)
    engine.bindings.units["jvm-1.work"] = Unit("work", 1.0, 0.0, iter([1.0] * 3))
    code = engine.link(flatten((Cpu("jvm-1", "work"),)))
    ended: list[float] = []

    for _ in range(3):
        engine.start(code, Context(0, "r", 1, 0, 0.0), lambda job, status: ended.append(engine.env.now))
    engine.env.run()

    assert ended == pytest.approx([1.5, 1.5, 1.5])


def test_an_event_loop_does_one_thing_at_a_time() -> None:
    """Two tasks of 1 s in one loop end after 1 s and 2 s, however many cores are free."""
    engine = Engine(8.0)
    engine.node("gateway-1", 1)
    engine.bindings.units["gateway-1.work"] = Unit("work", 1.0, 0.0, iter([1.0] * 2))
    code = engine.link(flatten((Cpu("gateway-1", "work"),)))
    ended: list[float] = []

    for _ in range(2):
        engine.start(code, Context(0, "r", 1, 0, 0.0), lambda job, status: ended.append(engine.env.now))
    engine.env.run()

    assert ended == pytest.approx([1.0, 2.0])


def test_background_work_reduces_the_cores() -> None:
    """With half a core of background, three tasks of 1 s have 1.5 cores and end after 2 s."""
    engine = Engine(2.0, background_cores=0.5)
    engine.node("jvm-1", 0)
    engine.bindings.units["jvm-1.work"] = Unit("work", 1.0, 0.0, iter([1.0] * 3))
    code = engine.link(flatten((Cpu("jvm-1", "work"),)))
    ended: list[float] = []

    for _ in range(3):
        engine.start(code, Context(0, "r", 1, 0, 0.0), lambda job, status: ended.append(engine.env.now))
    engine.env.run()

    assert ended == pytest.approx([2.0, 2.0, 2.0])


def test_a_failed_step_ends_the_job_with_its_status_and_frees_its_slot() -> None:
    """A job that fails while it holds a slot in a pool releases the slot."""
    engine = Engine(1.0)
    pool = engine.pool("places", 1)
    ended: list[int] = []
    engine.start(
        engine.link(flatten((Acquire("places"), Fail(404)))),
        Context(0, "r", 1, 0, 0.0),
        lambda job, status: ended.append(status),
    )

    assert ended == [404]
    assert pool.free == 1
