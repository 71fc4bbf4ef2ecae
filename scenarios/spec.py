"""A scenario as frozen values: what `loader.load` returns. Times are in seconds, rates per second."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from scenarios import objectives
from system.kernel import policies

Objective = objectives.Objective


@dataclass(frozen=True)
class Follows:
    """The distribution of follower counts.

    `shape`: a key of vocabulary.GRAPH_SHAPES. `mean`: mean followers per user. `max`: followers of the most
    followed user.
    """

    shape: str = "pareto"
    mean: float = 40.0
    max: int = 600


@dataclass(frozen=True)
class Population:
    """The data that the stores hold before the load starts.

    `history_tweets`: mean seeded tweets per user. `likes`: mean seeded likes per seeded tweet. `protected`:
    share of the users whose tweets only their followers may read. `graph`: a file of follows, which replaces
    `users` and `follows`; None draws the graph from the seed. `cache`: a key of vocabulary.CACHE_STATES.
    `undirected`: whether each line of `graph` stands for two follows, one in each direction; None: as the
    file says. `direction`: a key of vocabulary.GRAPH_DIRECTIONS; None: the first column follows the second.
    """

    users: int = 2000
    follows: Follows = field(default_factory=Follows)
    history_tweets: int = 20
    graph: Path | None = None
    cache: str = "warm"
    likes: float = 0.0
    protected: float = 0.0
    undirected: bool | None = None
    direction: str | None = None


@dataclass(frozen=True)
class Stage:
    """`for_s` seconds in which the rate changes linearly from `rate_from` to `rate_to`.

    `mix`: None for the mix of the workload.
    """

    for_s: float
    rate_from: float
    rate_to: float
    mix: dict[str, float] | None = None


@dataclass(frozen=True)
class Workload:
    """The load. `mix`: route -> share, sums to 1. `zipf`: exponent of popularity; 0 makes all users equal."""

    arrivals: str
    stages: tuple[Stage, ...]
    mix: dict[str, float]
    zipf: float = 0.8

    @property
    def load_s(self) -> float:
        """Planned duration of the load, in seconds."""
        return sum(stage.for_s for stage in self.stages)

    @property
    def peak_per_s(self) -> float:
        """The highest planned rate, in operations per second."""
        return max(max(stage.rate_from, stage.rate_to) for stage in self.stages)

    @property
    def planned(self) -> float:
        """The expected number of operations."""
        return sum(stage.for_s * (stage.rate_from + stage.rate_to) / 2 for stage in self.stages)


@dataclass(frozen=True)
class Fault:
    """A fault to inject.

    `at_s`: seconds from the start of the load. `for_s`: how long it is held; None for an instant fault.
    `delay_s`: one-way delay of the WAN links. `loss`: share of the packets that the links lose. Both are None
    where not set. `recovers_within_s`: longest allowed recovery, in seconds from `ends_s`; None for the
    default of its kind.
    """

    at_s: float
    kind: str
    target: str
    for_s: float | None = None
    delay_s: float | None = None
    loss: float | None = None
    recovers_within_s: float | None = None

    @property
    def ends_s(self) -> float:
        """Planned end (undo if held, injection if instant), in seconds from the start of the load."""
        return self.at_s + (self.for_s or 0.0)

    @property
    def strength(self) -> dict[str, float]:
        """The strength parameters that the scenario sets, by name; empty for a fault without any."""
        return {name: value for name, value in (("delay_s", self.delay_s), ("loss", self.loss)) if value is not None}


@dataclass(frozen=True)
class Measure:
    """`warm_up_s`: seconds at the start that `steady` windows leave out. `repeats`: total number of runs.

    `warm_caches`: whether every reader's home page is read once through the API before the load starts. It is
    meant for populations above 10,000 users, which `population.cache: warm` does not warm.
    """

    warm_up_s: float = 10.0
    repeats: int = 1
    warm_caches: bool = False


@dataclass(frozen=True)
class Scenario:
    """One question, with everything needed to repeat the experiment. `source`: the YAML text as it was read.

    `cpu_quota`: maximum cores of each service instance while the load runs; None for no limit.
    `expect_overload`: the load is meant to exceed the system's capacity, so an OVERLOADED run may pass. `sweep`: the
    settings that `tweetlab sweep` varies, as for its `--over`; a run ignores it.
    """

    name: str
    question: str
    expect: str
    seed: int
    platform: str
    population: Population
    workload: Workload
    policies: policies.Policies
    faults: tuple[Fault, ...]
    objectives: tuple[Objective, ...]
    measure: Measure
    cpu_quota: float | None = None
    expect_overload: bool = False
    sweep: tuple[str, ...] = ()
    source: str = ""

    @property
    def faults_in_load(self) -> tuple[Fault, ...]:
        """The faults that start before the load ends; the others are never injected."""
        return tuple(fault for fault in self.faults if fault.at_s < self.workload.load_s)

    def resolved(self) -> dict[str, Any]:
        """Return every effective value, defaults included, as plain JSON types."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items() if key != "source"}

    def at_rate(self, rate_per_s: float, for_s: float) -> Scenario:
        """Return the scenario at one constant rate for `for_s` seconds, without faults, to find capacity."""
        stage = Stage(for_s=for_s, rate_from=rate_per_s, rate_to=rate_per_s)
        return dataclasses.replace(self, workload=dataclasses.replace(self.workload, stages=(stage,)), faults=())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Fraction):
        return float(value)
    return str(value) if isinstance(value, Path) else value
