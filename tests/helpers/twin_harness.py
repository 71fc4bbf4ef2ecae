"""Small queueing experiments on the twin's own engine: arrivals, one program, response times."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim import theory
from sim.compiled.layout import BUSY_NS
from sim.disciplines import ProcessorSharing
from sim.engine import Engine
from sim.jobs import Context, Job, Unit
from sim.program import Step
from sim.streams import NS, Law, Stream, constant, exponential, key_of, lognormal, mixed, ns

LITERATURE = Path(__file__).with_name("literature_calibration.json")
"""A fixed calibration, independent of the file that ships with the lab: published figures, and assumptions."""

EXPONENTIAL, CONSTANT, LOGNORMAL2 = exponential(1.0), constant(1.0), lognormal(2.0)
"""Laws with mean 1 and coefficient of variation 1, 0 and 2."""


@dataclass
class Lab:
    """One engine with its seed. `compiled`: run its programs on the compiled engine."""

    engine: Engine
    seed: int
    compiled: bool = False
    machine: Any = None

    def unit(self, node: str, name: str, mean_s: float, law: Law = EXPONENTIAL) -> None:
        """Define a unit of work at a node. `law`: of its demand, mean 1."""
        self.engine.bindings.units[f"{node}.{name}"] = Unit(name, mean_s, 0.0, law)

    def context(self, number: int) -> Context:
        """Return a new request."""
        key = mixed(mixed(key_of(self.seed, "operations"), number), 0)
        return Context(number, "r", 0, 0, self.engine.env.now, key)

    def request(self, steps: tuple[Step, ...], number: int, ended: list[tuple[int, int]]) -> Generator[Any, Any, None]:
        """Run one request; append (response ns, status)."""
        ctx = self.context(number)
        status = yield self.engine.env.process(self.engine.run(Job(ctx, ctx.key), steps))
        ctx.ended = True
        ended.append((self.engine.env.now - ctx.due_ns, status))

    def open(self, steps: tuple[Step, ...], rate_per_s: float, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (response seconds, status) of n Poisson arrivals, in order of departure."""
        gaps = Stream(self.seed, "gaps", exponential(1.0 / rate_per_s))
        due_ns = list(itertools.accumulate(ns(next(gaps)) for _ in range(n)))
        responses, statuses = zip(*self.at(steps, due_ns), strict=True)
        return np.asarray(responses) / NS, np.asarray(statuses)

    def at(self, steps: tuple[Step, ...], due_ns: list[int]) -> list[tuple[int, int]]:
        """Return (response ns, status) of requests at `due_ns`, in order of departure."""
        if self.compiled:
            from sim.compiled.machine import Machine

            self.machine = Machine(self.engine, self.seed, due_ns[-1] // NS + 600)
            self.machine.open(steps, due_ns)
            return self.machine.ended()
        env, ended = self.engine.env, []
        self.engine.link(steps)

        def arrivals() -> Generator[Any, Any, None]:
            for number, due in enumerate(due_ns):
                yield env.timeout(due - env.now)
                env.process(self.request(steps, number, ended))

        env.process(arrivals())
        env.run()
        return ended

    def busy_s(self) -> float:
        """Return the CPU seconds that were used."""
        return (int(self.machine.rows[0, BUSY_NS]) if self.machine is not None else self.engine.host.busy_ns) / NS


def lab(seed: int, cores: int = 1, compiled: bool = False) -> Lab:
    """Return a new engine whose cores are shared evenly."""
    return Lab(Engine(cores, ProcessorSharing), seed, compiled)


def holds(values: np.ndarray, expected: float, errors: float = 4.0) -> bool:
    """Return whether the mean of autocorrelated `values` is within `errors` standard errors of `expected`."""
    steady = values[len(values) // 20 :]
    return abs(float(steady.mean()) - expected) <= errors * theory.batch_standard_error(steady)
