"""The loads of a validation, drawn from a hash of the model, so that nobody chooses them.

`identity` covers the parsed programs of routes and workers, the constants of the model and the calibration. Another
model or calibration is examined on other loads; the same one always on the same, so that an interrupted validation
resumes.

| kind | loads | repeats | what is judged |
|---|---|---|---|
| examination | 6, half of them above 0.6 of the machine | 3 | mean, percentiles, CPU |
| headline | 2, always the same | 5 | the same, with less noise |
| fixed | 3, always the same | 1 | nothing: for comparison across commits |
| capacity | a ladder of 6 rates | 2 | the rate at which home p99 reaches 50 and 100 ms |
| cache_loss | 1, with a drawn moment | 3 | rebuilds and recovery |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scenarios import spec, workload
from scenarios.world import seeded_world
from sim import queues, replication, services, stores, workers
from sim.calibration import Calibration
from sim.replication import Replication
from sim.state import Seeded
from system.kernel.policies import FanoutKnobs, Policies, TimelineKnobs

MIXES: dict[str, dict[str, float]] = {
    "reads": {"home": 46, "user_tweets": 24, "tweet": 10, "profile": 5, "like": 6, "search": 4, "post": 5},
    "mixed": {"home": 40, "user_tweets": 14, "tweet": 8, "profile": 5, "like": 8, "search": 6, "post": 15, "follow": 4},
    "posts": {"home": 32, "user_tweets": 6, "like": 10, "search": 3, "post": 40, "reply": 5, "follow": 4},
    "social": {"home": 34, "user_tweets": 14, "profile": 10, "like": 18, "follow": 8, "unfollow": 4, "post": 12},
}
LOW, HIGH = (0.28, 0.57), (0.62, 0.76)
"""Range of the predicted utilization of an examination, below and above 0.6."""

EDGE = 0.6  # utilization between the two bands of bars
STEADY_S, WARM_UP_S = 60.0, 10.0
QUICK_S = 45.0
TRIAL_FROM_S = 3.0
TRIAL_S = 15.0  # of simulated load, to find the rate for a utilization
CAPACITY_STEPS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2)  # of the predicted saturation; a machine can be a fifth faster than then
FIXED_SEED = 20261130


@dataclass(frozen=True)
class Load:
    """One load of a validation. `name`: unique within it. `mix`: a word of MIXES. `repeats`: runs of it."""

    name: str
    kind: str
    mix: str
    scenario: spec.Scenario
    repeats: int

    @property
    def seconds(self) -> float:
        """Load time of all its runs."""
        return self.repeats * self.scenario.workload.load_s


def identity(calibration: Calibration) -> str:
    """Return the hash of programs, constants and calibration, 16 hex digits."""
    constants = (
        replication.BACKGROUND_TASK_S,
        workers.PUBLISHER_GATHER_S,
        workers.FANOUT_GATHER_S,
        workers.LISTEN_S,
        services.WIDTHS,
        stores.DEVICES,
        queues.__name__,
    )
    text = repr(
        (services.ROUTES, workers.CONSUMERS, constants, sorted(asdict(calibration).items(), key=lambda item: item[0]))
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan(calibration: Calibration, *, quick: bool, say: Callable[[str], None] = lambda _: None) -> list[Load]:
    """Return the loads of a validation of the twin with `calibration`, in random order. Takes about half a minute."""
    random = np.random.default_rng(int(identity(calibration), 16))
    steady_s, repeats = (QUICK_S, 2) if quick else (STEADY_S, 3)
    count = 2 if quick else 6
    loads = []
    for number in range(count):
        say(f"drawing examination {number + 1} of {count}")
        low = number % 2 == 0
        loads.append(
            _examination(f"examination_{number + 1}", random, LOW if low else HIGH, steady_s, repeats, calibration)
        )
    if quick:
        return loads
    fixed = np.random.default_rng(FIXED_SEED)
    loads += [
        _steady(f"headline_{mix}", "headline", mix, rate, fixed, steady_s, 5)
        for mix, rate in (("mixed", 110.0), ("reads", 230.0))
    ]
    loads += [
        _steady(f"fixed_{mix}", "fixed", mix, rate, fixed, steady_s, 1)
        for mix, rate in (("reads", 150.0), ("mixed", 90.0), ("posts", 60.0))
    ]
    loads.append(_cache_loss(random))
    order = [loads[index] for index in random.permutation(len(loads))]
    return [*order, *_ladder(random, calibration)]


def _population(random: np.random.Generator) -> spec.Population:
    users = int(random.choice([1500, 2000, 3000, 4000]))
    mean = float(random.choice([20, 40, 60]))
    return spec.Population(
        users, spec.Follows("pareto", mean, int(random.choice([400, 600, 1200]))), int(random.choice([8, 12, 20, 30]))
    )


def _policies(random: np.random.Generator) -> Policies:
    return Policies(
        fanout=FanoutKnobs(push_limit=int(random.choice([50, 100, 300, 1000]))),
        timeline=TimelineKnobs(rebuild_concurrency=int(random.choice([8, 16, 32]))),
    )


def _mix(name: str, random: np.random.Generator) -> dict[str, float]:
    """Return the shares of a mix, each moved at random, in whole per cent."""
    moved = {route: share * float(random.lognormal(0.0, 0.25)) for route, share in MIXES[name].items()}
    total = sum(moved.values())
    whole = {route: max(1, round(100 * share / total)) for route, share in moved.items()}
    whole[max(whole, key=lambda route: whole[route])] += 100 - sum(whole.values())
    return {route: share / 100 for route, share in whole.items()}


def _scenario(
    name: str,
    seed: int,
    rate: float,
    for_s: float,
    mix: dict[str, float],
    population: spec.Population,
    policies: Policies,
    zipf: float,
    faults: tuple[spec.Fault, ...] = (),
) -> spec.Scenario:
    stage = spec.Stage(WARM_UP_S + for_s, rate, rate)
    return spec.Scenario(
        name,
        "How well does the twin predict this load?",
        "not stated",
        seed,
        "small",
        population,
        spec.Workload("poisson", (stage,), mix, zipf),
        policies,
        faults,
        (),
        spec.Measure(warm_up_s=WARM_UP_S),
    )


def scenario(name: str, random: np.random.Generator, mix: str, for_s: float) -> spec.Scenario:
    """Return a drawn scenario: shares near those of `mix`, a population, policies and popularity, at 100 requests/s."""
    return _scenario(
        name,
        int(random.integers(1, 1 << 30)),
        100.0,
        for_s,
        _mix(mix, random),
        _population(random),
        _policies(random),
        float(random.choice([0.6, 0.8, 1.0, 1.15])),
    )


def _examination(
    name: str,
    random: np.random.Generator,
    band: tuple[float, float],
    steady_s: float,
    repeats: int,
    calibration: Calibration,
) -> Load:
    word = str(random.choice(sorted(MIXES)))
    target = float(random.uniform(*band))
    drawn = scenario(name, random, word, steady_s)
    return Load(name, "examination", word, at_utilization(drawn, target, calibration), repeats)


def _steady(
    name: str, kind: str, mix: str, rate: float, random: np.random.Generator, steady_s: float, repeats: int
) -> Load:
    scenario = _scenario(
        name,
        int(random.integers(1, 1 << 30)),
        rate,
        steady_s,
        {r: s / 100 for r, s in MIXES[mix].items()},
        spec.Population(),
        Policies(fanout=FanoutKnobs(push_limit=300)),
        0.8,
    )
    return Load(name, kind, mix, scenario, repeats)


def _cache_loss(random: np.random.Generator) -> Load:
    fault = spec.Fault(round(float(random.uniform(20.0, 30.0)), 1), "cache_loss", "redis")
    scenario = _scenario(
        "cache_loss",
        int(random.integers(1, 1 << 30)),
        round(float(random.uniform(90.0, 120.0))),  # fast and long enough that most viewers have come back before it ends
        70.0,
        {"home": 0.7, "user_tweets": 0.15, "post": 0.1, "like": 0.05},
        spec.Population(),
        Policies(),
        0.8,
        (fault,),
    )
    return Load("cache_loss", "cache_loss", "reads", scenario, 3)


def _ladder(random: np.random.Generator, calibration: Calibration) -> list[Load]:
    word = str(random.choice(["reads", "mixed"]))
    base = _scenario(
        "capacity",
        int(random.integers(1, 1 << 30)),
        100.0,
        30.0,
        _mix(word, random),
        spec.Population(),
        _policies(random),
        0.8,
    )
    full = at_utilization(base, 0.7, calibration).workload.stages[0].rate_from / 0.7
    return [
        Load(f"capacity_{number + 1}", "capacity", word, _with_rate(base, round(step * full)), 2)
        for number, step in enumerate(CAPACITY_STEPS)
    ]


def _with_rate(scenario: spec.Scenario, rate: float) -> spec.Scenario:
    [stage] = scenario.workload.stages
    moved = replace(stage, rate_from=float(rate), rate_to=float(rate))
    return replace(scenario, workload=replace(scenario.workload, stages=(moved,)))


def at_utilization(scenario: spec.Scenario, target: float, calibration: Calibration) -> spec.Scenario:
    """Return the scenario at the rate at which the model uses `target` of the machine."""
    rate = 100.0
    for _ in range(3):
        used = utilization(_with_rate(scenario, rate), calibration)
        idle = sum(calibration.background_cores.values()) / calibration.cores
        rate = min(max(rate * (target - idle) / max(used - idle, 0.02), 5.0), 600.0)
    return _with_rate(scenario, round(rate))


def utilization(scenario: spec.Scenario, calibration: Calibration) -> float:
    """Return the share of the machine that the model uses for `scenario`, 0 to 1, from TRIAL_S of it."""
    trial = scenario.at_rate(scenario.workload.stages[0].rate_from, TRIAL_S)
    world = seeded_world.draw(trial.population, trial.seed)
    tape = workload.draw_over(trial, world)
    played = Replication(trial, calibration, Seeded.of(trial, world.graph, world.past), trial.seed).play(tape)
    used = sum(node.mean_cores(TRIAL_FROM_S, TRIAL_S) for node in played.nodes.values())
    return (used + sum(calibration.background_cores.values())) / calibration.cores


def as_json(load: Load) -> dict[str, Any]:
    """Return what the ledger keeps of a load."""
    resolved = load.scenario.resolved()
    return {
        "name": load.name,
        "kind": load.kind,
        "mix": load.mix,
        "repeats": load.repeats,
        "rate": load.scenario.workload.stages[0].rate_from,
        "seed": load.scenario.seed,
        "shares": resolved["workload"]["mix"],
        "population": resolved["population"],
        "push_limit": load.scenario.policies.fanout.push_limit,
        "rebuild_concurrency": load.scenario.policies.timeline.rebuild_concurrency,
        "zipf": load.scenario.workload.zipf,
        "faults": resolved["faults"],
        "resolved": resolved,
    }
