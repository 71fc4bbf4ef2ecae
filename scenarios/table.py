"""Every key that a scenario file may contain.

The loader and the published JSON Schema are both built from this table. To add a key: add its `Key` here and
its field in `spec`. The `policies` block needs no row: its keys are the fields of `system.kernel.policies`,
with the unit moved from the field's name (`open_s`) to the value (`1 s`).
"""

from __future__ import annotations

import dataclasses
import functools
import typing
from pathlib import Path
from typing import Any

from scenarios import kinds, objectives, spec, units, vocabulary
from scenarios.kinds import Block, Flag, Key, ListOf, Mix, Number, Quantity, Text, Where, Word
from system.kernel import policies

# Policies that must be above 0: their 0 would not disable a feature but stop a service or a route.
POSITIVE = frozenset({
    "FanoutKnobs.chunk", "TimelineKnobs.cap", "TimelineKnobs.rebuild_concurrency", "TimelineKnobs.building_ttl_s",
    "TimelineKnobs.mode_ttl_s", "CacheKnobs.tweet_ttl_s", "CacheKnobs.profile_ttl_s", "CacheKnobs.privacy_ttl_s",
    "CacheKnobs.like_ttl_s", "RetryKnobs.attempts", "DeadlineKnobs.request_s", "DeadlineKnobs.store_s", "LimitKnobs.max_gateways",
    "AutoscaleKnobs.min", "SearchKnobs.half_life_s", "SearchKnobs.band", "SearchKnobs.view_s", "MediaKnobs.link_s",
})  # fmt: skip
MOST = {"SearchKnobs.band": 10_000}  # Elasticsearch's limit of a result window

ROUTE = Word(lambda: list(vocabulary.ROUTES), vocabulary.NOT_SERVED)
DURATION = Quantity(units.duration_s, "20 s")


class ObjectiveKind:
    """One line of text, in the grammar of `objectives`."""

    def read(self, value: Any, where: Where) -> spec.Objective:
        try:
            return objectives.parse(value, vocabulary.ROUTES)
        except units.UnitError as error:
            where.refuse(value, error.allowed, error.hint)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "examples": ["home p99 <= 250 ms steady", "errors < 0.5 % whole",
                                               "home p99 <= 250 ms after fault within 20 s"]}


class ExistingFile:
    """The path of a readable file, relative to the working directory."""

    def read(self, value: Any, where: Where) -> Path:
        path = Path(value) if isinstance(value, str) and value else where.refuse(value, "it must be a path.")
        if not path.is_file():
            where.refuse(value, f"there is no such file ({path.resolve()}); give the path of an edge list, a CSV file "
                                "with named columns or a Matrix Market file (docs/how-to/graphs.md).")
        return path

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class NameKind(Text):
    """A name that is also used as a directory name in `runs/`."""

    def read(self, value: Any, where: Where) -> str:
        if not isinstance(value, str) or not value.replace("_", "").isalnum() or not value.isascii() or value != value.lower():
            where.refuse(value, "it must be lower-case letters, digits and underscores, such as `evening_peak`.")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^[a-z0-9_]+$"}


def _policy_keys(kind: Any) -> list[Key]:
    """Return the keys of one group of policies: `open_s: float = 1.0` becomes `open`, a duration."""
    hints = typing.get_type_hints(kind)
    keys = []
    for item in dataclasses.fields(kind):
        label = f"{kind.__name__}.{item.name}"
        value: kinds.Kind = Number(int(label in POSITIVE), MOST.get(label), whole=hints[item.name] is int)
        if item.name.endswith("_s"):
            value = Quantity(_whole_seconds if hints[item.name] is int else units.duration_s, "2 s", label in POSITIVE)
        elif hints[item.name] is float:
            value = Quantity(units.share, "10 %")
        name = item.name.removesuffix("_s")
        keys.append(Key(name, value, f"{label}, see system/kernel/policies.py", item.default))
    return keys


def policy_defaults(kind: Any) -> dict[str, str]:
    """Return key -> default of one group of policies, both as a scenario writes them."""
    hints, group = typing.get_type_hints(kind), kind()
    defaults = {}
    for item in dataclasses.fields(kind):
        value = getattr(group, item.name)
        if item.name.endswith("_s"):
            text = units.format_duration(value)
        else:
            text = units.format_share(value) if hints[item.name] is float else str(value)
        defaults[item.name.removesuffix("_s")] = text
    return defaults


def _whole_seconds(value: object) -> int:
    return round(units.duration_s(value))


def _policy_groups() -> list[Key]:
    groups = typing.get_type_hints(policies.Policies)
    return [Key(name, Block(functools.partial(_policy_keys, kind), _knobs_of(kind)), _first_line(kind), kind())
            for name, kind in groups.items()]


def _knobs_of(kind: Any) -> Any:
    fields = {item.name.removesuffix("_s"): item.name for item in dataclasses.fields(kind)}
    return lambda **read: kind(**{fields[name]: value for name, value in read.items()})


def _first_line(kind: Any) -> str:
    return str(kind.__doc__).split(". ")[0].split("\n")[0].replace("`", "")


def _stage(for_: float, rate: tuple[float, float], mix: dict[str, float] | None) -> spec.Stage:
    return spec.Stage(for_, rate[0], rate[1], mix)


def _workload(arrivals: str, stages: Any, mix: Any, popularity: Any) -> spec.Workload:
    return spec.Workload(arrivals, stages, mix, popularity["zipf"])


def _population(history: int, **keys: Any) -> spec.Population:
    return spec.Population(history_tweets=history, **keys)


def _fault(at: float, kind: str, target: str, for_: float | None, delay: float | None, loss: float | None,
           recovers_within: float | None) -> spec.Fault:
    return spec.Fault(at, kind, target, for_, delay, loss, recovers_within)


def _measure(warm_up: float, repeats: int, warm_caches: bool) -> spec.Measure:
    return spec.Measure(warm_up, repeats, warm_caches)


FOLLOWS = (
    Key("shape", Word(lambda: list(vocabulary.GRAPH_SHAPES)), "distribution of follower counts", "pareto"),
    Key("mean", Number(low=0), "mean followers per user", 40.0),
    Key("max", Number(low=1, whole=True), "followers of the most followed user", 600),
)
POPULATION = (
    Key("users", Number(low=2, high=5_000_000, whole=True), "number of users", 2000),
    Key("follows", Block(lambda: FOLLOWS, spec.Follows), "the follow graph, drawn from the seed", spec.Follows()),
    Key("history", Quantity(units.counting("tweets"), "20 tweets", accepts_number=True),
        "seeded tweets per user (mean), posted before the run", 20),
    Key("graph", ExistingFile(),
        "file of follows (edge list, CSV or Matrix Market); replaces `users` and `follows`", None),
    Key("undirected", Flag(),
        "`true`: each line of `graph` is a mutual follow; default: as the file declares", None),
    Key("direction", Word(lambda: list(vocabulary.GRAPH_DIRECTIONS)),
        "order of the columns of `graph`: `follower_followee` (default) or `followee_follower`", None),
    Key("cache", Word(lambda: list(vocabulary.CACHE_STATES)),
        "state of the cache when the load starts: `warm` or `cold`", "warm"),
    Key("likes", Number(low=0), "seeded likes per seeded tweet (mean)", 0.0),
    Key("protected", Quantity(units.share, "10 %"),
        "share of the users that are protected: only approved followers may read them", 0.0),
)
STAGE = (
    Key("for", Quantity(units.duration_s, "20 s", positive=True), "duration of the stage"),
    Key("rate", Quantity(units.ramp_per_s, "100/s"),
        "operations per second, or a linear ramp `100/s..400/s`; `0/s` is a pause"),
    Key("mix", Mix(ROUTE), "weights of the routes in this stage; default: the mix of the workload", None),
)
POPULARITY = (
    Key("zipf", Number(low=0, high=3), "exponent of Zipf's law; 0 makes all users equally popular", 0.8),
)
WORKLOAD = (
    Key("arrivals", Word(lambda: vocabulary.ARRIVALS),
        "arrivals of an open workload: `poisson` (random) or `even` (evenly spaced)", "poisson"),
    Key("stages", ListOf(Block(lambda: STAGE, _stage), least=1), "the arrival rate over time"),
    Key("mix", Mix(ROUTE), "weights of the routes"),
    Key("popularity", Block(lambda: POPULARITY), "how unequal the users' popularity is (Zipf's law)", {"zipf": 0.8}),
)
FAULT = (
    Key("at", DURATION, "time of injection, from the start of the load"),
    Key("kind", Word(lambda: list(vocabulary.FAULT_KINDS)), "kind of fault"),
    Key("target", Text(), "a node, such as `redis` or `timelines-1`; or a zone, a region or `lines` (all WAN links)"),
    Key("for", Quantity(units.duration_s, "10 s", positive=True),
        "how long the fault is held; required for held faults, not allowed for instant ones", None),
    Key("delay", Quantity(units.duration_s, "80 ms"), "one-way delay of the WAN links; only for `wan_slow`", None),
    Key("loss", Quantity(units.share, "1 %"), "share of the packets that the WAN links drop; only for `wan_slow`", None),
    Key("recovers_within", Quantity(units.duration_s, "20 s", positive=True),
        "longest allowed recovery; a longer one fails the run; default: that of the kind", None),
)
MEASURE = (
    Key("warm_up", DURATION, "time at the start of the load that `steady` windows leave out", 10.0),
    Key("repeats", Number(low=1, high=100, whole=True),
        "total number of runs; the command reports the median of their percentiles", 1),
    Key("warm_caches", Flag(), "read every reader's home timeline once through the API before the load", False),
)
SCENARIO = (
    Key("name", NameKind(), "name of the scenario and of its directory in `runs/`"),
    Key("question", Text(), "the question that the run answers"),
    Key("expect", Text(), "the expected answer, written before the run", ""),
    Key("seed", Number(low=0, high=2**32 - 1, whole=True),
        "seed of population, tape (the schedule of arrivals) and texts", 1),
    Key("platform", Word(lambda: sorted(vocabulary.BLUEPRINTS)), "blueprint of the lab that it runs on", "small"),
    Key("cpu_quota", Quantity(units.cores, "0.2 core", positive=True),
        "CPU limit of each service instance, so that capacity grows with their number; default: none", None),
    Key("expect_overload", Flag(),
        "`true`: the load is meant to exceed the system's capacity, and an OVERLOADED run may pass", False),
    Key("sweep", ListOf(Text()), "settings that `tweetlab sweep` varies unless `--over` says otherwise, such as "
        "`rate=100/s..900/s:9`; a run ignores it", ()),
    Key("population", Block(lambda: POPULATION, _population), "users and data in the stores before the load",
        spec.Population()),
    Key("workload", Block(lambda: WORKLOAD, _workload), "the load: arrival rate, mix and popularity"),
    Key("policies", Block(_policy_groups, policies.Policies),
        "policies of the system: fan-out, caches, limits, timeouts, retries, scaling", policies.Policies()),
    Key("faults", ListOf(Block(lambda: FAULT, _fault)), "faults to inject", ()),
    Key("objectives", ListOf(ObjectiveKind()), "objectives that the run must meet", ()),
    Key("measure", Block(lambda: MEASURE, _measure), "warm-up and repeats", spec.Measure()),
)
ROOT = Block(lambda: SCENARIO, spec.Scenario)
