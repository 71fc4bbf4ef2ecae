"""Small queueing experiments on the twin's own engine: arrivals, one program, response times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim import theory
from sim.engine import Engine
from sim.jobs import Context, Job, Unit
from sim.program import Step, flatten
from sim.stations import call_after

LITERATURE = Path(__file__).with_name("literature_calibration.json")
"""A fixed calibration, independent of the file that ships with the lab: published figures, and assumptions."""

Draw = Callable[[np.random.Generator, int], np.ndarray]


def exponential(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mean 1, cv 1."""
    return rng.exponential(1.0, n)


def constant(_rng: np.random.Generator, n: int) -> np.ndarray:
    """Mean 1, cv 0."""
    return np.ones(n)


def lognormal2(rng: np.random.Generator, n: int) -> np.ndarray:
    """Mean 1, cv 2."""
    variance = np.log(1.0 + 4.0)
    return rng.lognormal(-variance / 2.0, np.sqrt(variance), n)


def stream(rng: np.random.Generator, draw: Draw, scale: float = 1.0) -> Iterator[float]:
    """Endless draws, in blocks."""
    while True:
        yield from (scale * draw(rng, 4096)).tolist()


@dataclass
class Lab:
    """One engine with its seed. `services`: unit name -> (mean seconds, law)."""

    engine: Engine
    rng: np.random.Generator

    def unit(self, node: str, name: str, mean_s: float, draw: Draw = exponential) -> None:
        """Define a unit of work at a node."""
        noise = stream(self.rng, draw)
        self.engine.bindings.units[f"{node}.{name}"] = Unit(name, mean_s, 0.0, noise)

    def open(self, steps: tuple[Step, ...], rate_per_s: float, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (response seconds, status) of n Poisson arrivals, in order of departure."""
        engine = self.engine
        code = engine.link(flatten(steps))
        gaps = stream(self.rng, exponential, 1.0 / rate_per_s)
        responses: list[float] = []
        statuses: list[int] = []

        def done(job: Job, status: int) -> None:
            responses.append(engine.env.now - job.ctx.due)
            statuses.append(status)

        def arrive(event: object) -> None:
            index = event._value  # type: ignore[attr-defined]
            if index + 1 < n:
                call_after(engine.env, next(gaps), arrive, index + 1)
            engine.start(code, Context(index, "r", 0, 0, engine.env.now), done)

        call_after(engine.env, next(gaps), arrive, 0)
        engine.env.run()
        return np.asarray(responses), np.asarray(statuses)

    def closed(self, steps: tuple[Step, ...], users: int, think_s: float, n: int) -> np.ndarray:
        """Return response seconds of n requests by `users` who think between them."""
        engine = self.engine
        code = engine.link(flatten(steps))
        thinks = stream(self.rng, exponential, think_s)
        responses: list[float] = []

        def done(job: Job, _status: int) -> None:
            responses.append(engine.env.now - job.ctx.due)
            if len(responses) < n:
                call_after(engine.env, next(thinks), begin)

        def begin(_event: object) -> None:
            engine.start(code, Context(0, "r", 0, 0, engine.env.now), done)

        for _ in range(users):
            call_after(engine.env, next(thinks), begin)
        engine.env.run()
        return np.asarray(responses)


def lab(seed: int, cores: float = 1.0) -> Lab:
    """Return a new engine."""
    return Lab(Engine(cores), np.random.default_rng(seed))


def holds(values: np.ndarray, expected: float, errors: float = 4.0) -> bool:
    """Return whether the mean of autocorrelated `values` is within `errors` standard errors of `expected`."""
    steady = values[len(values) // 20 :]
    return abs(float(steady.mean()) - expected) <= errors * theory.batch_standard_error(steady)
