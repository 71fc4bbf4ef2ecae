"""The reference engine is fast enough for a notebook: the goal is 25,000 requests per second on a small twin."""

from __future__ import annotations

import time

from sim.jobs import Context
from sim.program import Branch, Cpu, Delay, flatten
from sim.stations import call_after
from tests.helpers import twin_harness as harness

GOAL_PER_S = 25_000
SLOWER = 0.4  # the test must pass on a busy or older machine too; the goal is for an idle core
N = 15_000
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
    lab = harness.lab(seed=1, cores=2.0)
    engine = lab.engine
    for node, width, unit, mean_s in NODES:
        engine.node(node, width)
        lab.unit(node, unit, mean_s)
    engine.bindings.delays["net"] = harness.stream(lab.rng, harness.exponential, 1e-3)
    draws = harness.stream(lab.rng, lambda rng, n: rng.random(n))
    engine.bindings.predicates["miss"] = lambda job: next(draws) < 0.1
    code = engine.link(flatten((
        Cpu("haproxy", "pass"), Cpu("gateway", "read", share=0.5), Cpu("service", "read"), Cpu("redis", "read"),
        Branch("miss", (Cpu("cassandra", "read"), Delay("net"))), Cpu("gateway", "read", share=0.5), Cpu("haproxy", "pass"),
    )))  # fmt: skip
    gaps = harness.stream(lab.rng, harness.exponential, 1 / 1500)
    done = 0

    def ended(job: object, status: int) -> None:
        nonlocal done
        done += 1

    def arrive(event: object) -> None:
        index: int = event._value  # type: ignore[attr-defined]
        engine.start(code, Context(index, "home", 1, 0, engine.env.now), ended)
        if index + 1 < N:
            call_after(engine.env, next(gaps), arrive, index + 1)

    call_after(engine.env, 0.0, arrive, 0)
    start_s = time.process_time()
    engine.env.run()
    assert done == N
    return N / (time.process_time() - start_s)


def test_the_reference_engine_is_fast_enough() -> None:
    """Best of three, by own CPU time, so that other load on the machine matters less."""
    best = max(requests_per_cpu_s() for _ in range(3))

    assert best > SLOWER * GOAL_PER_S, f"{best:.0f} requests per second"
