"""The knobs of the system, as one value: the `policies` block of a scenario.

Services read it from their environment, the twin from the scenario: a change of a knob changes the
system and its prediction together. Every field says its unit; every default says where it is from.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from dataclasses import dataclass, field
from typing import Any

from system.kernel import numbers
from system.kernel.errors import WrongInput


@dataclass(frozen=True)
class FanoutKnobs:
    """When fan-out pushes and when readers pull.

    `push_limit`: followers; an author above it is pulled.
    `hysteresis`: fraction; a pulled author is pushed again below `push_limit * hysteresis`.
    `chunk`: followers handled by one Lua call (Twitter's own pipelines had 4,000 destinations).
    """

    push_limit: int = 10_000
    hysteresis: float = 0.8
    chunk: int = 4_000


@dataclass(frozen=True)
class TimelineKnobs:
    """How timelines are cached and rebuilt.

    `cap`: entries kept (Twitter and Mastodon: 800). `trim_slack`: entries above the cap before a trim.
    `rebuild_concurrency`: rebuilds at once in a process; `rebuild_queue`: how many more may wait.
    `building_ttl_s`: life of a building mark. `mode_ttl_s`: how old a reader's view of pulled authors may be.
    """

    cap: int = 800
    trim_slack: int = 50
    rebuild_concurrency: int = 16
    rebuild_queue: int = 64
    building_ttl_s: float = 5.0
    mode_ttl_s: float = 5.0


@dataclass(frozen=True)
class CacheKnobs:
    """`tweet_ttl_s`: life of a hot tweet in Redis; `profile_ttl_s`: of a profile. Seconds.

    `privacy_ttl_s`: how old a process' view of who is protected may be. A switch to protected is acknowledged when every
    older view has expired, so it takes that long (longer than `deadline.request_s` it ends as a 504, and stands all the same);
    without PostgreSQL reads go on that long and then fail closed.
    `like_ttl_s`: life of a cached count of likes. `like_gather_s`: how long changes of likes are gathered under load before the
    tweets they name are counted again.
    """

    tweet_ttl_s: int = 600
    profile_ttl_s: int = 60
    privacy_ttl_s: float = 2.0
    like_ttl_s: int = 600
    like_gather_s: float = 0.2


@dataclass(frozen=True)
class RetryKnobs:
    """`attempts`: tries in all, 1 switches retries off. `budget`: retries allowed as a fraction of first tries.

    `base_s`, `max_s`: first and longest pause; each pause is drawn evenly from 0 to its bound (full jitter).
    """

    attempts: int = 2
    budget: float = 0.1
    base_s: float = 0.05
    max_s: float = 1.0


@dataclass(frozen=True)
class DeadlineKnobs:
    """`request_s`: time a request has in all. `store_s`: longest wait for one call of a store."""

    request_s: float = 5.0
    store_s: float = 2.0


@dataclass(frozen=True)
class BreakerKnobs:
    """`failures`: failures in a row that open a breaker; 0 switches it off. `open_s`: time until a trial."""

    failures: int = 20
    open_s: float = 1.0


@dataclass(frozen=True)
class ShedKnobs:
    """What a gateway refuses with 503 before any work.

    `max_in_flight`: requests at once in one gateway; 0 switches it off. HAProxy lets 256 in and keeps the others waiting, so
    a lower number refuses what would have waited, and a higher one guards a gateway that is asked past HAProxy.
    `queue_target_s`, `queue_interval_s`: where every request of the last `queue_interval_s` had waited longer than
    `queue_target_s` since it arrived at the public door, those that did are refused (CoDel's rule: a queue that never
    empties is no buffer). A target of 0 switches it off. The defaults wait for what a started or added instance would fix.
    """

    max_in_flight: int = 512
    queue_target_s: float = 1.0
    queue_interval_s: float = 2.0


@dataclass(frozen=True)
class LimitKnobs:
    """Requests that one caller may send within any `window_s`; a class at 0 is not limited, a window of 0 limits nothing.

    `read`, `search`, `write`: of one user to one route of that class. `user`: of one user to all routes together.
    `sign_up`, `token`: of one client address to those routes. `login`: token requests for one user name.
    `max_gateways`: gateways at most; while the counters are away each of them admits limit / `max_gateways`.
    Generous, so that no shipped scenario meets them: the busiest of 2,000 Zipf readers sends 43 of 800 reads/s.
    """

    window_s: float = 60.0
    read: int = 12_000
    search: int = 3_000
    write: int = 3_000
    user: int = 20_000
    sign_up: int = 600
    token: int = 600
    login: int = 60
    max_gateways: int = 4


@dataclass(frozen=True)
class BulkheadKnobs:
    """Calls at once from one process to each dependency; more wait for a place, at most for their time limit. 0: no bound.

    `postgres`: connections of each pool of a process, 0 for the size that its users chose. `service`: requests of a gateway
    inside one service: two of them that hang leave a third of the 256 that HAProxy lets into a gateway at once.
    """

    redis: int = 1_024
    cassandra: int = 1_024
    postgres: int = 0
    kafka: int = 1_024
    elasticsearch: int = 64
    minio: int = 64
    service: int = 96


@dataclass(frozen=True)
class TimeoutKnobs:
    """Longest wait for one call of a dependency; 0 s: as `deadline.store`."""

    redis_s: float = 0.0
    cassandra_s: float = 0.0
    postgres_s: float = 0.0
    kafka_s: float = 0.0
    elasticsearch_s: float = 0.0
    minio_s: float = 0.0


@dataclass(frozen=True)
class CoalesceKnobs:
    """`misses`: 1, callers that miss the same cache entry wait for one read of the truth; 0, each reads for itself."""

    misses: int = 1


@dataclass(frozen=True)
class AutoscaleKnobs:
    """How many instances of each service stand, between `min` and `max`; `max` 0 leaves their number alone.

    Targets, of which the worst decides; 0 leaves one out. `cpu`: share of an instance's CPU quota (of one core without a
    quota). `in_flight`: requests inside an instance. `queue_s`: wait in the mesh for a place in an instance; where it is aimed
    at, an instance has 32 places instead of 256, so that what it cannot do yet waits where it is counted.
    `hysteresis`: fraction around a target in which nothing changes. `cool_down_s`: time after a change until more are added.
    `calm_s`: time for which fewer must have been enough before one is taken away.
    """

    min: int = 1
    max: int = 0
    cpu: float = 0.6
    in_flight: int = 0
    queue_s: float = 0.0
    hysteresis: float = 0.1
    cool_down_s: float = 3.0
    calm_s: float = 15.0


@dataclass(frozen=True)
class MeshKnobs:
    """What the mesh does with an instance that answers badly. A service's only instance is never ejected.

    `eject_errors`: errors of one instance in a second, while its siblings do better, that eject it; 0 switches it off.
    `eject_s`: for how long. `heal_s`: an instance that has not answered its checks for so long is replaced; 0 never.
    """

    eject_errors: int = 5
    eject_s: float = 5.0
    heal_s: float = 5.0


@dataclass(frozen=True)
class SearchKnobs:
    """How search ranks, and how the indexer works.

    `half_life_s`: age at which the decaying part of a tweet's rank is a half; `floor`: fraction that an old tweet keeps.
    `band`: newest matches that are ranked together, older ones come after them (Elasticsearch's own bound of a result window).
    `view_s`: how long the view of a paged search is kept after its last use. `gather_s`: pause between two bulks under load.
    `keep_deleted_s`: how long a deleted tweet stays as a document, so that no late write revives it.
    """

    half_life_s: float = 86_400.0
    floor: float = 0.1
    band: int = 10_000
    view_s: float = 120.0
    gather_s: float = 0.15
    keep_deleted_s: float = 86_400.0


@dataclass(frozen=True)
class MediaKnobs:
    """How long links to media hold, and when orphans are collected. Seconds.

    `link_s`: life of a link to read; who has one reads for so long, whatever happens to his right meanwhile.
    `unfinished_s`: age at which an upload that was never finalised is removed (its URL holds for 900), and at which the tweet of
    an attached picture is looked for. `unattached_s`: age at which a finalised picture without a tweet is removed.
    `sweep_s`: pause between two collections; 0 collects nothing.
    """

    link_s: int = 120
    unfinished_s: float = 3_600.0
    unattached_s: float = 86_400.0
    sweep_s: float = 30.0


@dataclass(frozen=True)
class Policies:
    """All knobs. `Policies()` is the default of a scenario without a `policies` block."""

    fanout: FanoutKnobs = field(default_factory=FanoutKnobs)
    timeline: TimelineKnobs = field(default_factory=TimelineKnobs)
    cache: CacheKnobs = field(default_factory=CacheKnobs)
    retry: RetryKnobs = field(default_factory=RetryKnobs)
    deadline: DeadlineKnobs = field(default_factory=DeadlineKnobs)
    breaker: BreakerKnobs = field(default_factory=BreakerKnobs)
    shed: ShedKnobs = field(default_factory=ShedKnobs)
    limits: LimitKnobs = field(default_factory=LimitKnobs)
    bulkhead: BulkheadKnobs = field(default_factory=BulkheadKnobs)
    timeout: TimeoutKnobs = field(default_factory=TimeoutKnobs)
    coalesce: CoalesceKnobs = field(default_factory=CoalesceKnobs)
    autoscale: AutoscaleKnobs = field(default_factory=AutoscaleKnobs)
    mesh: MeshKnobs = field(default_factory=MeshKnobs)
    search: SearchKnobs = field(default_factory=SearchKnobs)
    media: MediaKnobs = field(default_factory=MediaKnobs)

    def timeout_s(self, dependency: str) -> float:
        """Return the longest wait for one call of `dependency`, in seconds."""
        own: float = getattr(self.timeout, f"{dependency}_s", 0.0)
        return own or self.deadline.store_s

    def to_json(self) -> str:
        """Return the knobs as one JSON object, as `TWEETLAB_POLICIES` carries them."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def from_json(text: str) -> Policies:
    """Return the knobs in `text`; what is not named keeps its default. Raises WrongInput, naming the knob."""
    try:
        values = numbers.parse_json(text) if text.strip() else {}
    except ValueError as problem:
        raise WrongInput(f"The policies (TWEETLAB_POLICIES) cannot be read: {problem}") from None
    if not isinstance(values, dict):
        raise WrongInput(f"The policies (TWEETLAB_POLICIES) are {text[:40]!r}; they must be a JSON object.")
    return from_dict(values)


def from_dict(values: dict[str, Any]) -> Policies:
    """Return the knobs in a nested dict of plain numbers (units as in the field names)."""
    parts: dict[str, Any] = {}
    kinds = typing.get_type_hints(Policies)
    for group, knobs in values.items():
        if group not in kinds:
            raise WrongInput(f"`policies.{group}` is not known; it must be one of {', '.join(sorted(kinds))}.")
        parts[group] = _knobs(group, kinds[group], knobs)
    return Policies(**parts)


def _knobs(group: str, kind: Any, values: Any) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(values, dict):
        raise WrongInput(f"`policies.{group}` is {values!r}; it must be a block with {', '.join(sorted(hints))}.")
    for name, value in values.items():
        if name not in hints:
            raise WrongInput(f"`policies.{group}.{name}` is not known; it must be one of {', '.join(sorted(hints))}.")
        allowed = (int, float) if hints[name] is float else hints[name]
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise WrongInput(f"`policies.{group}.{name}` is {value!r}; it must be a {hints[name].__name__}.")
        if not numbers.is_number(value):
            raise WrongInput(f"`policies.{group}.{name}` is {numbers.shown(value)}; it must be a finite "
                             f"number from 0 to {numbers.MAX_WHOLE}.")
        if value < 0:
            raise WrongInput(f"`policies.{group}.{name}` is {value}; it must not be negative.")
    return kind(**values)
