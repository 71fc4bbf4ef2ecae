"""Speed of the twin's two engines: a steady mix of the whole model, an M/M/2 queue beside plain SimPy and Ciw, one answer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

from scenarios import loader, workload
from scenarios.world import population
from sim import calibration
from sim.compiled.machine import Machine
from sim.compiled.replication import CompiledReplication
from sim.engine import Engine
from sim.jobs import Unit
from sim.program import Cpu
from sim.reference import DRAIN_S, ReferenceReplication
from sim.state import Seeded
from sim.streams import NS, exponential, ns

ROOT = Path(__file__).resolve().parents[2]
UTILIZATION = 0.7
ARRIVALS_PER_S, SERVICE_S = 140.0, 0.010  # M/M/2 at 0.7
SEED = 1


def _steady(rate_per_s: float, seconds: float) -> tuple[Any, workload.Tape, Seeded]:
    scenario = loader.load("first_run", (
        f"workload.stages.0.rate={rate_per_s:.0f}/s", f"workload.stages.0.for={seconds:.0f} s", "faults=[]",
        "objectives=[home p99 <= 250 ms steady]", "measure.warm_up=0"))  # fmt: skip
    graph = population.graph_of(scenario.population, scenario.seed)
    return scenario, workload.draw(scenario, graph), Seeded.of(scenario, graph)


def rate_per_s() -> float:
    """Return the rate at which the steady mix of `first_run` uses UTILIZATION of the machine with the shipped calibration."""
    low, high = 40.0, 600.0
    for _ in range(7):
        rate = (low + high) / 2
        scenario, tape, seeded = _steady(rate, 40)
        played = CompiledReplication(scenario, calibration.default(), seeded, SEED).play(tape)
        used = sum(node.mean_cores(15, 40) for node in played.nodes.values())
        low, high = (rate, high) if used < UTILIZATION * calibration.default().cores else (low, rate)
    return low


def twin_requests_per_s(seconds: float = 600.0) -> float:
    """Return operations per second of the compiled engine: steady mix, all policies, histograms by route and second."""
    rate = rate_per_s()
    scenario, tape, seeded = _steady(rate, seconds)
    best = 0.0
    for _ in range(3):
        replication = CompiledReplication(scenario, calibration.default(), seeded, SEED)
        replication.fill(tape)
        replication.machine.count_responses()
        for table in (replication.machine.contexts, replication.machine.responses):
            table.fill(0)  # takes the memory: a virtual machine needs milliseconds for 2 MiB that are new to it
        start_s = time.perf_counter()
        replication.machine.play(ns(seconds + DRAIN_S))
        best = max(best, int(replication.machine.responses.sum()) / (time.perf_counter() - start_s))
    return best


def simpy_requests_per_s(seconds: float = 30.0) -> float:
    """Return operations per second of the reference engine on the same load. The first play reads what `seeded` keeps."""
    scenario, tape, seeded = _steady(rate_per_s(), seconds)
    best = 0.0
    for _ in range(3):
        replication = ReferenceReplication(scenario, calibration.default(), seeded, SEED)
        start_s = time.perf_counter()
        played = replication.play(tape)
        best = max(best, len(played.operations) / (time.perf_counter() - start_s))
    return best


# ---- M/M/2 -----------------------------------------------------------------------------------------------

def _due_ns(n: int) -> np.ndarray:
    gaps = np.random.default_rng(SEED).exponential(NS / ARRIVALS_PER_S, n)
    return np.cumsum(gaps).astype(np.int64)


def mm2_compiled_per_s(n: int = 300_000) -> float:
    """Return requests per second of an M/M/2 queue on the general kernel: two threads, two cores."""
    best = 0.0
    for _ in range(5):
        engine = Engine(2)
        engine.node("servers", 2)
        engine.bindings.units["servers.work"] = Unit("work", SERVICE_S, 0.0, exponential(1.0))
        due_ns = _due_ns(n)
        machine = Machine(engine, SEED, int(due_ns[-1] // NS) + 60)
        start_s = time.perf_counter()
        machine.open((Cpu("servers", "work"),), due_ns)
        best = max(best, n / (time.perf_counter() - start_s))
    return best


def mm2_simpy_per_s(n: int = 30_000) -> float:
    """Return requests per second of an M/M/2 queue as the SimPy documentation writes it."""
    import simpy

    env = simpy.Environment()
    servers = simpy.Resource(env, 2)
    draws = np.random.default_rng(SEED)
    services, gaps = (iter(draws.exponential(mean_s, n).tolist()) for mean_s in (SERVICE_S, 1 / ARRIVALS_PER_S))

    def request() -> Generator[simpy.Event, Any, None]:
        with servers.request() as server:
            yield server
            yield env.timeout(next(services))

    def arrivals() -> Generator[simpy.Event, Any, None]:
        for gap in gaps:
            yield env.timeout(gap)
            env.process(request())

    env.process(arrivals())
    return _timed(env.run, n)


def mm2_ciw_per_s(n: int = 20_000) -> float:
    """Return requests per second of an M/M/2 queue in Ciw; NaN where Ciw is not installed (`pip install ciw`)."""
    try:
        import ciw  # type: ignore[import-not-found]
    except ImportError:
        return float("nan")
    network = ciw.create_network(arrival_distributions=[ciw.dists.Exponential(ARRIVALS_PER_S)],
                                 service_distributions=[ciw.dists.Exponential(1 / SERVICE_S)], number_of_servers=[2])
    ciw.seed(SEED)
    simulation = ciw.Simulation(network)
    return _timed(lambda: simulation.simulate_until_max_customers(n), n)


def _timed(play: Callable[[], object], n: int) -> float:
    start_s = time.perf_counter()
    play()
    return n / (time.perf_counter() - start_s)


def mm2_vs_simpy() -> float:
    """Return how many times as fast as SimPy the compiled engine plays M/M/2."""
    return mm2_compiled_per_s() / max(mm2_simpy_per_s() for _ in range(5))


def mm2_vs_ciw() -> float:
    """Return how many times as fast as Ciw the compiled engine plays M/M/2."""
    return mm2_compiled_per_s() / max(mm2_ciw_per_s() for _ in range(2))


def twin_answer_s() -> float:
    """Return wall seconds of `tweetlab run first_run --on twin` with 20 replications, from command to report."""
    command = [sys.executable, "-P", "-m", "tweetlab", "run", "first_run", "--on", "twin", "--replications", "20"]
    best = float("inf")
    for _ in range(2):
        start_s = time.perf_counter()
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
        subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=300)
        best = min(best, time.perf_counter() - start_s)
    return best
