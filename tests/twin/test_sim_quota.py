"""CPU quotas: the arithmetic of periods, exactly, and the resulting queue, within four standard errors."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from sim import bandwidth, theory
from sim.bandwidth import Bandwidth
from sim.program import Cpu
from sim.resources import Failed, Process
from sim.streams import NS, ns
from system.platform.process import cgroups
from tests.helpers import twin_harness as harness

MS = 1e-3


def limited(seed: int, cores: float, *, phase_s: float = 0.0, period_s: float = bandwidth.PERIOD_S,
            host: int = 4) -> harness.Lab:  # fmt: skip
    """Return an engine with one event loop `loop` under a quota."""
    lab = harness.lab(seed, cores=host)
    node = lab.engine.node("loop", 1)
    node.quota = Bandwidth(lab.engine.env, lab.engine.host, cores, phase_s, period_s)
    return lab


def submitted(lab: harness.Lab, node: str, at_s: float, demand_s: float) -> list[float]:
    """Submit a demand of `demand_s` to a node at `at_s`.

    The list contains its end time after the engine has run.
    """
    ended: list[float] = []
    lab.engine.env.process(_submit(lab, lab.engine.bindings.nodes[node], ns(at_s), demand_s, ended))
    return ended


def _submit(lab: harness.Lab, station: Process, at_ns: int, demand_s: float, ended: list[float]) -> Generator[Any, Any, None]:
    yield lab.engine.env.timeout(at_ns)
    try:
        yield station.work(demand_s)
        ended.append(lab.engine.env.now / NS)
    except Failed:
        pass


def test_the_period_is_the_one_that_the_lab_sets() -> None:
    """Sim may not import the platform; this test keeps the values equal."""
    assert bandwidth.PERIOD_S == cgroups.PERIOD_US / 1e6


@pytest.mark.parametrize(
    ("at_ms", "demand_ms", "ends_ms"),
    [
        (0, 3, 3),     # within the budget of 4 ms
        (0, 4, 4),     # all of it
        (0, 5, 21),    # 4, then throttled until 20, then 1
        (0, 12, 44),   # 4 + 4 + 4: two full periods and the third budget
        (17, 3, 20),   # the rest of the period is enough
        (17, 6, 23),   # 3 of the old budget, and 3 of the new one without a pause
        (17, 8, 41),   # 3, 4 until 24, then throttled until 40, then 1
    ],
)  # fmt: skip
def test_a_demand_ends_according_to_the_arithmetic_of_periods(at_ms: int, demand_ms: int, ends_ms: int) -> None:
    """A fifth of a core in periods of 20 ms: 4 ms in each."""
    lab = limited(1, 0.2)

    ended = submitted(lab, "loop", at_ms * MS, demand_ms * MS)
    lab.engine.env.run()

    assert ended == [pytest.approx(ends_ms * MS, abs=1e-8)]


@pytest.mark.parametrize("demand_ms", [0.5, 3.9, 4.0, 4.1, 37.0, 100.0])
def test_a_demand_from_a_full_budget_takes_full_periods_and_a_remainder(demand_ms: float) -> None:
    """d of CPU at q per period: ceil(d / q) - 1 periods and the remainder of d."""
    lab, budget_ms = limited(1, 0.2, phase_s=7 * MS), 4.0

    ended = submitted(lab, "loop", 7 * MS, demand_ms * MS)
    lab.engine.env.run()

    periods = math.ceil(demand_ms / budget_ms - 1e-9) - 1
    assert ended == [pytest.approx((7 + periods * 20 + demand_ms - periods * budget_ms) * MS, abs=1e-8)]


def test_a_neighbour_on_the_core_makes_the_budget_last_longer() -> None:
    """Two tasks on one core run at half speed: 4 ms of budget last 8 ms, and CPU is charged to the right
    period.

    From 16 ms on, shared: 2 ms until 20 are the old period's, so the new one still has all 4: 6 ms end at 28.
    """
    lab = limited(1, 0.2, host=1)
    lab.engine.node("hog", 0)
    submitted(lab, "hog", 0.0, 1.0)

    ended = submitted(lab, "loop", 16 * MS, 6 * MS)
    late = submitted(lab, "loop", 60 * MS, 5 * MS)
    lab.engine.env.run()

    assert ended == [pytest.approx(28 * MS, abs=1e-8)]
    assert late == [pytest.approx(82 * MS, abs=1e-8)]  # 4 by 68, throttled until 80, then 1 at half speed


def test_a_backlog_drains_at_the_speed_of_the_quota() -> None:
    """100 simultaneous demands of 3 ms, a fifth of a core: 300 ms of CPU are 74 full periods and the last 4
    ms.
    """
    lab = limited(1, 0.2)
    ends = [submitted(lab, "loop", 0.0, 3 * MS) for _ in range(100)]

    lab.engine.env.run()

    assert max(end[0] for end in ends) == pytest.approx((74 * 20 + 4) * MS, abs=1e-7)
    assert lab.engine.bindings.nodes["loop"].demand_ns / NS == pytest.approx(0.3)
    assert lab.engine.host.busy_ns / NS == pytest.approx(0.3)


def test_short_periods_make_a_slower_server() -> None:
    """Periods far shorter than the wait: an M/M/1 queue whose server has a fifth of the speed.

    At 0.7 of its capacity 20,000 responses determine the mean to 3 % (a standard error) and p99 barely to 15
    %.
    """
    lab = limited(2, 0.2, period_s=0.4 * MS)
    lab.unit("loop", "work", 2 * MS)
    n = 20_000

    responses, _ = lab.open((Cpu("loop", "work"),), 70.0, n)

    assert harness.holds(responses, theory.mmc_response_s(70.0, 10 * MS))
    assert np.quantile(responses, 0.99) == pytest.approx(theory.mm1_quantile_s(70.0, 10 * MS, 0.99), rel=0.15)


def test_a_killed_process_drops_the_task_that_waited_for_its_next_period() -> None:
    """No task of the dead process continues; after the restart it works as before."""
    lab = limited(1, 0.2)
    dead = submitted(lab, "loop", 0.0, 6 * MS)
    node = lab.engine.bindings.nodes["loop"]
    lab.engine.env.run(until=ns(10 * MS))

    lost = node.crash(503)
    node.down = False
    after = submitted(lab, "loop", 30 * MS, 4 * MS)  # from now, so at 40
    lab.engine.env.run()

    assert lost == 1
    assert dead == []
    assert after == [pytest.approx(44 * MS, abs=1e-8)]
    assert node.tally.lost == 1
    assert node.tally.inside == 0
