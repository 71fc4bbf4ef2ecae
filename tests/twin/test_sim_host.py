"""The CPU disciplines: who runs when, and their means against closed forms."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
import simpy

from sim import theory
from sim.clock import call_after
from sim.disciplines import CoreQueues, ProcessorSharing
from sim.engine import Engine
from sim.program import Cpu
from sim.resources import Failed, Host, Process
from sim.stations import Amortization
from sim.streams import NS, Stream, exponential, ns
from tests.helpers import twin_harness as harness

Make = Callable[[simpy.Environment, int], Host]
SLICE_NS = 2_000_000


class Machine:
    """Processes on one host; `ended`: (job, time) of each finished task; `lost`: the jobs that died with their process."""

    def __init__(self, host: Make, cores: int = 1) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.host = host(self.env, cores)
        self.ended: list[tuple[Any, float]] = []
        self.lost: list[Any] = []

    def node(self, name: str, width: int = 1) -> Process:
        return Process(self.env, self.host, name, width)

    def at(self, when: float, node: Process, job: Any, demand_s: float) -> None:
        self.env.process(self._job(ns(when), node, job, demand_s))

    def _job(self, when_ns: int, node: Process, job: Any, demand_s: float) -> Generator[Any, Any, None]:
        yield self.env.timeout(when_ns)
        try:
            yield node.work(demand_s)
            self.ended.append((job, round(self.env.now / NS, 6)))
        except Failed:
            self.lost.append(job)


def queue(env: simpy.Environment, cores: int) -> Host:
    return Host(env, cores, SLICE_NS)


def test_a_short_task_waits_for_the_slice_of_a_long_one() -> None:
    """One core, 10 ms under way: a task of 0.2 ms that wakes at 1 ms runs at 2 ms, when the slice ends."""
    machine = Machine(queue)
    machine.at(0.0, machine.node("long"), "long", 0.010)
    machine.at(0.001, machine.node("short"), "short", 0.0002)

    machine.env.run()

    assert machine.ended == [("short", 0.0022), ("long", 0.0102)]


def test_long_tasks_take_turns() -> None:
    """Two tasks of 4 ms on one core alternate every slice, so both end near the end."""
    machine = Machine(queue)
    for name in ("a", "b"):
        machine.at(0.0, machine.node(name), name, 0.004)

    machine.env.run()

    assert machine.ended == [("a", 0.006), ("b", 0.008)]


def test_an_event_loop_works_off_its_queue_without_leaving_the_core() -> None:
    """Three tasks of 0.5 ms of one process run in one turn; the other process waits for all of them."""
    machine = Machine(queue)
    loop, other = machine.node("loop"), machine.node("other")
    for number in range(3):
        machine.at(0.0, loop, number, 0.0005)
    machine.at(0.0001, other, "other", 0.0005)

    machine.env.run()

    assert [job for job, _ in machine.ended] == [0, 1, 2, "other"]


def test_a_real_time_process_never_waits_and_the_displaced_one_goes_on_first() -> None:
    """It takes the core at once; the task that it displaced continues before the one that waited."""
    machine = Machine(queue)
    urgent = machine.node("urgent")
    urgent.realtime = True
    machine.at(0.0, machine.node("a"), "a", 0.0018)
    machine.at(0.0005, machine.node("b"), "b", 0.001)
    machine.at(0.001, urgent, "urgent", 0.0003)

    machine.env.run()

    assert machine.ended == [("urgent", 0.0013), ("a", 0.0021), ("b", 0.0031)]


def test_a_killed_process_leaves_its_core_to_others() -> None:
    """Its running and its waiting tasks are dropped, and the CPU that it used stays counted."""
    machine = Machine(queue)
    doomed, other = machine.node("doomed", 0), machine.node("other")
    machine.at(0.0, doomed, "d1", 1.0)
    machine.at(0.0, doomed, "d2", 1.0)
    machine.at(0.0, other, "other", 0.001)
    call_after(machine.env, 1_000_000, lambda _: doomed.crash(503))

    machine.env.run()

    assert sorted(machine.lost) == ["d1", "d2"]
    assert machine.ended == [("other", 0.002)]
    assert machine.host.busy_ns == 2_000_000


def test_an_idle_core_takes_a_waiting_task_of_another_only_after_a_while() -> None:
    """Both tasks last ran on the first core; the second core is idle for 4 ms before it helps."""
    machine = Machine(lambda env, cores: CoreQueues(env, cores, SLICE_NS, 4_000_000), cores=2)
    a, b = machine.node("a"), machine.node("b")
    machine.at(0.0, a, "a", 0.010)
    machine.at(0.0005, b, "b", 0.001)

    machine.env.run()

    assert dict(machine.ended)["b"] == pytest.approx(0.0015)  # an idle core is taken at once by a task that wakes


@pytest.mark.parametrize("host", [queue, lambda env, cores: CoreQueues(env, cores, SLICE_NS, 100_000), ProcessorSharing],
                         ids=["run queue", "core queues", "sharing"])
def test_every_discipline_has_the_mean_of_mm2_for_exponential_tasks(host: Make) -> None:
    """No discipline that keeps both cores busy can change it."""
    lab = harness.lab(seed=4, cores=2)
    lab.engine = Engine(2, host)
    lab.engine.node("jvm", 0)
    lab.unit("jvm", "work", 0.010)

    responses, _ = lab.open((Cpu("jvm", "work"),), 140.0, 20_000)

    tolerance = 8.0 if host is not queue and host is not ProcessorSharing else 4.0
    assert harness.holds(responses, theory.mmc_response_s(140.0, 0.010, 2), tolerance)


def test_background_tasks_use_the_cores_that_they_are_given() -> None:
    """A stream of tasks of 0.4 ms that uses a fifth of a core does so, beside the process that is measured."""
    pauses, demands = (Stream(3, name, exponential(mean_s)) for name, mean_s in (("pause", 0.002), ("demand", 0.0004)))
    env = simpy.Environment(initial_time=0)
    host = Host(env, 2, SLICE_NS, ((ns(pause), ns(demand)) for pause, demand in zip(pauses, demands)))

    env.run(until=60 * NS)

    assert host.busy_ns / NS / 60.0 == pytest.approx(0.2, abs=0.01)


def test_work_gets_cheaper_with_load_within_the_measured_range() -> None:
    """At twice the reference rate a unit costs 2^-0.3; beyond the range the factor stays."""
    law = Amortization(0.3, reference=0.1, lowest=0.05, highest=0.4)

    assert law.at(0.1) == 1.0
    assert law.at(0.2) == pytest.approx(2**-0.3)
    assert law.at(4.0) == law.at(0.4)
    assert law.at(0.0) == law.at(0.05)


def test_a_process_under_constant_load_reaches_the_factor_of_that_load() -> None:
    """Tasks of 1 ms of nominal work, 200 times a second: after a few seconds the CPU is 0.2 * 2^-0.3 cores."""
    machine = Machine(queue, cores=2)
    node = machine.node("gateway")
    node.amortization = Amortization(0.3, reference=0.1, lowest=0.05, highest=0.4)
    for number in range(2_000):
        machine.at(number / 200, node, number, 0.001)

    machine.env.run()

    assert node.mean_cores(5, 9) == pytest.approx(0.2 * 2**-0.3, rel=0.02)


def test_work_off_the_path_delays_others_but_not_its_own_answer() -> None:
    """Of 4 ms, half is done after the answer: it comes after 2 ms, and the next request waits for all of it."""
    machine = Machine(queue)
    node = machine.node("service")
    node.off_path = 0.5
    machine.at(0.0, node, "first", 0.004)
    machine.at(0.001, node, "second", 0.004)

    machine.env.run()

    assert machine.ended == [("first", 0.002), ("second", 0.006)]


def test_no_request_waits_for_what_threads_do_less_of_at_a_high_load() -> None:
    """Idle, 4 ms of nominal work cost twice as much; the request waits for what they cost at the highest load, a quarter."""
    machine = Machine(queue)
    node = machine.node("store")
    node.amortization, node.threaded = Amortization(1.0, reference=0.1, lowest=0.05, highest=0.4), True
    machine.at(0.0, node, "search", 0.004)

    machine.env.run()

    assert machine.ended == [("search", 0.001)]
    assert node.demand_ns == 8_000_000
