"""The knobs of the system, as one value: the `policies` block of a scenario.

Services read it from their environment, the twin from the scenario: a change of a knob changes the
system and its prediction together. Every field states its unit; every default states its source.
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

    `push_limit`: followers; tweets of an author with more are pulled, not pushed.
    `hysteresis`: fraction; a pulled author is pushed again below `push_limit * hysteresis`.
    `chunk`: followers per Lua call (Twitter's own pipelines had 4,000 destinations).
    """

    push_limit: int = 10_000
    hysteresis: float = 0.8
    chunk: int = 4_000


@dataclass(frozen=True)
class TimelineKnobs:
    """How timelines are cached and rebuilt.

    `cap`: entries kept (Twitter and Mastodon: 800). `trim_slack`: entries above the cap before a trim.
    `rebuild_concurrency`: concurrent rebuilds per process; `rebuild_queue`: how many more may wait.
    `building_ttl_s`: TTL of the building marker. `mode_ttl_s`: maximum age of a reader's view of pulled
    authors.
    """

    cap: int = 800
    trim_slack: int = 50
    rebuild_concurrency: int = 16
    rebuild_queue: int = 64
    building_ttl_s: float = 5.0
    mode_ttl_s: float = 5.0


@dataclass(frozen=True)
class CacheKnobs:
    """`tweet_ttl_s`: TTL of a hot tweet in Redis; `profile_ttl_s`: of a profile. Seconds.

    `privacy_ttl_s`: maximum age of a process' view of which users are protected. A switch to protected is
    acknowledged once every older view has expired, so it takes that long (if that exceeds
    `deadline.request_s` the response is a 504, and the switch still takes effect); without PostgreSQL reads
    continue for that long and then fail closed. `like_ttl_s`: TTL of a cached like count. `like_gather_s`:
    how long like changes are batched under load before the tweets they name are counted again.
    """

    tweet_ttl_s: int = 600
    profile_ttl_s: int = 60
    privacy_ttl_s: float = 2.0
    like_ttl_s: int = 600
    like_gather_s: float = 0.2


@dataclass(frozen=True)
class RetryKnobs:
    """`attempts`: tries in total, 1 disables retries. `budget`: retries allowed as a fraction of first tries.

    `base_s`, `max_s`: first and longest backoff; each is uniform from 0 to its bound (full jitter).
    """

    attempts: int = 2
    budget: float = 0.1
    base_s: float = 0.05
    max_s: float = 1.0


@dataclass(frozen=True)
class DeadlineKnobs:
    """`request_s`: total time of a request. `store_s`: longest wait for one call of a store."""

    request_s: float = 5.0
    store_s: float = 2.0


@dataclass(frozen=True)
class BreakerKnobs:
    """`failures`: consecutive failures that open a breaker; 0 disables it.

    `open_s`: time until a trial call.
    """

    failures: int = 20
    open_s: float = 1.0


@dataclass(frozen=True)
class ShedKnobs:
    """Load shedding: what a gateway refuses with 503 before any work.

    `max_in_flight`: concurrent requests in one gateway; 0 disables the check. HAProxy admits 256 and queues
    the others, so a lower value refuses requests that would have waited, and a higher one protects a gateway
    that is called directly. `queue_target_s`, `queue_interval_s`: if every request of the last
    `queue_interval_s` had waited longer than `queue_target_s` since it arrived at the public load balancer,
    those that did are refused (the CoDel rule: a queue that never empties is not a buffer). A target of 0
    disables the check. The defaults tolerate a queue that a restarted or added instance would clear.
    """

    max_in_flight: int = 512
    queue_target_s: float = 1.0
    queue_interval_s: float = 2.0


@dataclass(frozen=True)
class LimitKnobs:
    """Requests that one caller may send within any `window_s`.

    0 leaves a class unlimited, a window of 0 all classes.

    `read`, `search`, `write`: by one user to one route of that class. `user`: by one user to all routes
    together. `sign_up`, `token`: by one client address to those routes. `login`: token requests for one user
    name. `max_gateways`: gateways at most; while the counters are unavailable each admits limit /
    `max_gateways`. Generous, so that no shipped scenario reaches them: the busiest of 2,000 Zipf readers
    sends 43 of 800 reads/s.
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
    """Concurrent calls from one process to each dependency; more wait for a slot, at most for their timeout.

    0: no bound.

    `postgres`: connections per pool of a process, 0 for the size that its code chooses. `service`: requests
    of a gateway inside one service: two hanging services leave 64 of the 256 requests that HAProxy admits to
    a gateway.
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
    """Single-flight for cache misses.

    `misses`: 1, callers that miss the same cache entry share one read of the source; 0, each reads alone.
    """

    misses: int = 1


@dataclass(frozen=True)
class AutoscaleKnobs:
    """How many instances each service runs, between `min` and `max`; `max` 0 disables autoscaling.

    Targets, of which the most exceeded one decides; 0 omits one. `cpu`: fraction of an instance's CPU quota
    (of one core without a quota). `in_flight`: requests inside an instance. `queue_s`: wait in the mesh for a
    slot of an instance; with this target an instance has 32 slots instead of 256, so that excess requests
    wait where they are measured. `hysteresis`: fraction around a target within which nothing changes.
    `cool_down_s`: time after a change until instances are added again. `calm_s`: time for which fewer
    instances must have been enough before one is removed.
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
    """Outlier ejection and replacement of unhealthy instances. A service's only instance is never ejected.

    `eject_errors`: errors of one instance per second, while its siblings do better, that eject it; 0 disables
    ejection. `eject_s`: for how long. `heal_s`: an instance that fails its health checks for this long is
    replaced; 0 never.
    """

    eject_errors: int = 5
    eject_s: float = 5.0
    heal_s: float = 5.0


@dataclass(frozen=True)
class SearchKnobs:
    """How search ranks, and how the indexer works.

    `half_life_s`: age at which the decaying part of a tweet's rank is one half; `floor`: fraction that an old
    tweet keeps. `band`: newest matches that are ranked together, older ones follow (Elasticsearch's own limit
    of a result window). `view_s`: how long the view of a paged search is kept after its last use. `gather_s`:
    pause between bulks under load. `keep_deleted_s`: how long a deleted tweet remains as a document, so that
    no late write revives it.
    """

    half_life_s: float = 86_400.0
    floor: float = 0.1
    band: int = 10_000
    view_s: float = 120.0
    gather_s: float = 0.15
    keep_deleted_s: float = 86_400.0


@dataclass(frozen=True)
class MediaKnobs:
    """How long links to media are valid, and when orphans are removed. Seconds.

    `link_s`: validity of a link to read; its holder can read for that long, even if they lose access in the
    meantime. `unfinished_s`: age at which an upload that was never finalised is removed (its URL is valid for
    900), and at which the tweet of an attached picture is checked. `unattached_s`: age at which a finalised
    picture without a tweet is removed. `sweep_s`: pause between two cleanups; 0 disables them.
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
    """Return the knobs in `text`; omitted knobs keep their defaults. Raises WrongInput, naming the knob."""
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
            raise WrongInput(f"`policies.{group}.{name}` is {numbers.short_repr(value)}; it must be a finite "
                             f"number from 0 to {numbers.MAX_INT}.")
        if value < 0:
            raise WrongInput(f"`policies.{group}.{name}` is {value}; it must not be negative.")
    return kind(**values)
