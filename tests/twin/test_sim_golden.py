"""The stations of both engines against closed forms: each within four standard errors of its own sample."""

from __future__ import annotations

import numpy as np
import pytest

from sim import theory
from sim.jobs import REFUSED, Numbers
from sim.program import Acquire, Cpu, Delay, Each, Loop, Parallel, Release
from sim.resources import Pool
from sim.streams import NS, exponential
from tests.helpers import twin_harness as harness

N = 40_000


@pytest.fixture(params=[False, True], ids=["simpy", "compiled"])
def compiled(request: pytest.FixtureRequest) -> bool:
    """Return whether to run on the compiled engine."""
    return bool(request.param)


def test_an_event_loop_is_an_mm1_queue_in_mean_and_tail(compiled: bool) -> None:
    """One loop on a free host: mean 1/(mu - lambda), and p99 of an exponential with that mean."""
    lab = harness.lab(seed=1, cores=4, compiled=compiled)
    lab.engine.node("loop", 1)
    lab.unit("loop", "work", 0.010)

    responses, _ = lab.open((Cpu("loop", "work"),), 70.0, N)

    assert harness.holds(responses, 0.010 / (1 - 0.7))
    assert theory.mmc_response_s(70.0, 0.010) == pytest.approx(1 / 30)
    assert np.quantile(responses, 0.99) == pytest.approx(theory.mm1_quantile_s(70.0, 0.010, 0.99), rel=0.12)


def test_three_slots_of_a_node_are_an_mmc_queue(compiled: bool) -> None:
    """Width 3 on a host of many cores waits according to Erlang C."""
    lab = harness.lab(seed=2, cores=64, compiled=compiled)
    lab.engine.node("threads", 3)
    lab.unit("threads", "work", 0.030)

    responses, _ = lab.open((Cpu("threads", "work"),), 80.0, N)

    assert harness.holds(responses, theory.mmc_response_s(80.0, 0.030, 3))


@pytest.mark.parametrize(("draw", "cv_squared"), [(harness.CONSTANT, 0.0), (harness.LOGNORMAL2, 4.0)])
def test_a_single_thread_waits_according_to_pollaczek_and_khinchine(draw: harness.Law, cv_squared: float, compiled: bool) -> None:
    """M/G/1: the wait grows with 1 + cv squared."""
    lab = harness.lab(seed=3, cores=2, compiled=compiled)
    lab.engine.node("redis", 1)
    lab.unit("redis", "work", 0.001, draw)

    responses, _ = lab.open((Cpu("redis", "work"),), 600.0, N)

    assert harness.holds(responses, theory.mg1_response_s(600.0, 0.001, cv_squared))


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize("draw", [harness.EXPONENTIAL, harness.LOGNORMAL2], ids=["exp", "lognormal"])
def test_the_shared_cpu_is_insensitive_to_the_distribution_of_demands(cores: int, draw: harness.Law, compiled: bool) -> None:
    """M/G/c-PS is insensitive: exponential and lognormal demands give the mean of M/M/c."""
    lab = harness.lab(seed=4, cores=cores, compiled=compiled)
    lab.engine.node("jvm", 0)
    lab.unit("jvm", "work", 0.010, draw)
    rate_per_s = 75.0 * cores

    responses, _ = lab.open((Cpu("jvm", "work"),), rate_per_s, N)

    expected = theory.mmc_response_s(rate_per_s, 0.010, cores)
    # Only for c = 1 is insensitivity exact; for c = 2 rate min(1, 2/n) is still a symmetric discipline, so it is too.
    assert harness.holds(responses, expected)


def test_two_services_on_one_core_share_it(compiled: bool) -> None:
    """Two nodes on one host wait for each other: the mean is that of one queue with the summed load."""
    lab = harness.lab(seed=5, cores=1, compiled=compiled)
    for name in ("a", "b"):
        lab.engine.node(name, 0)
        lab.unit(name, "work", 0.005)

    responses, _ = lab.open((Cpu("a", "work"), Cpu("b", "work")), 70.0, N)

    assert harness.holds(responses, 2 * 0.005 / (1 - 0.7))


def test_a_pool_with_a_full_queue_refuses_according_to_mm1k(compiled: bool) -> None:
    """One slot, capacity of four in total: the fraction refused and the response of the rest are those of
    M/M/1/4.
    """
    lab = harness.lab(seed=6, compiled=compiled)
    lab.engine.bindings.pools["places"] = Pool(lab.engine.env, 1, lambda running, waiting: waiting < 3)
    lab.engine.bindings.delays["service"] = exponential(0.010)

    responses, statuses = lab.open((Acquire("places"), Delay("service"), Release("places")), 90.0, N)

    lost, response_s = theory.mm1k(90.0, 0.010, 4)
    refused = (statuses == REFUSED).astype(float)
    assert harness.holds(refused, lost)
    assert harness.holds(responses[statuses == 0], response_s)


def test_users_with_think_time_are_the_machine_repair_model(compiled: bool) -> None:
    """20 users on 2 cores, each a job that thinks and works 2,000 times: throughput and response of the birth-death chain."""
    rounds = 2_000
    lab = harness.lab(seed=7, cores=2, compiled=compiled)
    lab.engine.node("jvm", 0)
    lab.unit("jvm", "work", 0.050)
    lab.engine.bindings.delays["think"] = exponential(0.5)
    lab.engine.bindings.items["rounds"] = Numbers(rounds)

    lasted, _ = lab.open((Loop("rounds", (Delay("think"), Cpu("jvm", "work"))),), 1e6, 20)

    throughput, response_s = theory.machine_repair(20, 0.5, 0.050, 2)
    assert float(np.mean(rounds / lasted)) * 20 == pytest.approx(throughput, rel=0.03)
    assert float(np.mean(lasted / rounds)) - 0.5 == pytest.approx(response_s, rel=0.06)


def test_loops_in_a_row_are_a_jackson_network(compiled: bool) -> None:
    """Three loops on a free host: end to end is the sum of three M/M/1 queues."""
    lab = harness.lab(seed=8, cores=8, compiled=compiled)
    services_s = (0.010, 0.006, 0.008)
    for name, service_s in zip("abc", services_s, strict=True):
        lab.engine.node(name, 1)
        lab.unit(name, "work", service_s)

    responses, _ = lab.open(tuple(Cpu(name, "work") for name in "abc"), 60.0, N)

    assert harness.holds(responses, theory.tandem_response_s(60.0, services_s))


def test_a_fork_waits_for_the_slower_of_two_queues(compiled: bool) -> None:
    """Two loops, both needed: Flatto and Hahn's (12 - rho)/8 times the response of one."""
    lab = harness.lab(seed=9, cores=8, compiled=compiled)
    for name in "ab":
        lab.engine.node(name, 1)
        lab.unit(name, "work", 0.010)

    responses, _ = lab.open((Parallel(((Cpu("a", "work"),), (Cpu("b", "work"),))),), 60.0, N)

    assert harness.holds(responses, theory.fork_join2_response_s(60.0, 0.010))


@pytest.mark.parametrize(("need", "expected_s"), [(1, 0.010 / 3), (2, 0.010 * 5 / 6), (3, 0.010 * 11 / 6)])
def test_a_quorum_is_the_kth_of_n_answers(need: int, expected_s: float, compiled: bool) -> None:
    """Three replicas with exponential delays of 10 ms: the mean of the k-th order statistic."""
    lab = harness.lab(seed=10, compiled=compiled)
    lab.engine.bindings.delays["replica"] = exponential(0.010)
    lab.engine.bindings.items["replicas"] = Numbers(3)

    responses, _ = lab.open((Each("replicas", (Delay("replica"),), need),), 100.0, 20_000)

    assert theory.kth_of_n_exponential_s(0.010, need, 3) == pytest.approx(expected_s)
    assert harness.holds(responses, expected_s)


def test_the_laws_hold_on_every_station_of_a_run(compiled: bool) -> None:
    """Little's law, utilisation and flow balance hold in the tallies to within rounding."""
    lab = harness.lab(seed=11, cores=2, compiled=compiled)
    lab.engine.node("gateway", 1)
    lab.engine.node("store", 0)
    lab.unit("gateway", "work", 0.004)
    lab.unit("store", "work", 0.006)

    lab.open((Cpu("gateway", "work"), Cpu("store", "work")), 120.0, 20_000)

    if compiled:
        for name, node in lab.engine.bindings.nodes.items():
            lab.machine.read_process(name, node)
    nodes = lab.engine.bindings.nodes.values()
    assert lab.busy_s() == pytest.approx(sum(node.demand_ns for node in nodes) / NS, rel=1e-6)
    for node in nodes:
        assert node.tally.arrivals == node.tally.completions == 20_000
        assert node.tally.area_ns == node.tally.sojourn_ns
