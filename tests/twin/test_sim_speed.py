"""The reference engine is fast enough for a notebook: the goal is 8,000 requests per second on a small twin."""

from __future__ import annotations

import time

from sim.program import Branch, Cpu, Delay
from sim.streams import exponential
from tests.helpers import twin_harness as harness

GOAL_PER_S = 8_000
SLOWER = 0.4  # the test must pass on a busy or older machine too; the goal is for an idle core
N = 6_000
NODES = (
    ("haproxy", 0, "pass", 30e-6),
    ("gateway", 1, "read", 200e-6),
    ("service", 1, "read", 300e-6),
    ("redis", 1, "read", 50e-6),
    ("cassandra", 0, "read", 500e-6),
)
"""Name, concurrent tasks (0: any number), unit of work, mean CPU in seconds."""


def requests_per_cpu_s() -> float:
    """Play N requests of seven CPU slices over five nodes on two shared cores.

    Return requests per second of own CPU.
    """
    lab = harness.lab(seed=1, cores=2)
    engine = lab.engine
    for node, width, unit, mean_s in NODES:
        engine.node(node, width)
        lab.unit(node, unit, mean_s)
    engine.bindings.delays["net"] = exponential(1e-3)
    engine.bindings.predicates["miss"] = lambda job: job.draw() < 0.1
    steps = (
        Cpu("haproxy", "pass"), Cpu("gateway", "read", share=0.5), Cpu("service", "read"), Cpu("redis", "read"),
        Branch("miss", (Cpu("cassandra", "read"), Delay("net"))), Cpu("gateway", "read", share=0.5), Cpu("haproxy", "pass"),
    )  # fmt: skip
    start_s = time.process_time()
    responses, _ = lab.open(steps, 1500.0, N)
    assert len(responses) == N
    return N / (time.process_time() - start_s)


def test_the_reference_engine_is_fast_enough() -> None:
    """Best of three, by own CPU time, so that other load on the machine matters less."""
    best = max(requests_per_cpu_s() for _ in range(3))

    assert best > SLOWER * GOAL_PER_S, f"{best:.0f} requests per second"
