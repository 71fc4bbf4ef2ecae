"""All tunable settings (knobs) of the system: the `policies` block of a scenario.

Services read the knobs from their environment, the twin reads them from the scenario: changing a knob changes
the system and its prediction together. Every field states its unit.
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
    """When an author's tweets are pushed (fan-out on write), and when readers pull them (fan-out on read).

    `push_limit`: number of followers; tweets of an author with more are pulled, not pushed. `hysteresis`:
    fraction; tweets of a pulled author are pushed again below `push_limit * hysteresis` followers. `chunk`:
    followers per Lua call (Twitter's own pipelines had 4,000 destinations).
    """

    push_limit: int = 10_000
    hysteresis: float = 0.8
    chunk: int = 4_000


@dataclass(frozen=True)
class TimelineKnobs:
    """How timelines are cached and rebuilt.

    `cap`: entries per timeline (Twitter and Mastodon: 800). `trim_slack`: entries above the cap at which a
    timeline is trimmed. `rebuild_concurrency`: concurrent rebuilds per process; `rebuild_queue`: rebuilds
    that may wait for a slot. `building_ttl_s`: TTL of the mark of a list that is being rebuilt. `mode_ttl_s`:
    maximum age of the copy of the pulled authors that a read uses.
    """

    cap: int = 800
    trim_slack: int = 50
    rebuild_concurrency: int = 16
    rebuild_queue: int = 64
    building_ttl_s: float = 5.0
    mode_ttl_s: float = 5.0


@dataclass(frozen=True)
class CacheKnobs:
    """How long cached values may be used, in seconds.

    `tweet_ttl_s`: TTL of a hot tweet in Redis. `profile_ttl_s`: TTL of a profile in a process.

    `privacy_ttl_s`: maximum age of a process' copy of which users are protected. A switch to protected is
    acknowledged only after every older copy has expired, so it takes that long. If that exceeds
    `deadline.request_s`, the response is a 504, and the switch still takes effect. Without PostgreSQL, reads
    continue for that long and then fail closed.

    `like_ttl_s`: TTL of a cached like count. `like_gather_s`: under load, how long changes of likes are
    collected into one batch before the likes of the affected tweets are counted again.
    """

    tweet_ttl_s: int = 600
    profile_ttl_s: int = 60
    privacy_ttl_s: float = 2.0
    like_ttl_s: int = 600
    like_gather_s: float = 0.2


@dataclass(frozen=True)
class RetryKnobs:
    """Retries of failed calls.

    `attempts`: tries in total; 1 disables retries. `budget`: retry budget, retries as a fraction of first
    tries. `base_s`, `max_s`: bound of the first and of the longest backoff; each backoff is uniform from 0 to
    its bound (full jitter).
    """

    attempts: int = 2
    budget: float = 0.1
    base_s: float = 0.05
    max_s: float = 1.0


@dataclass(frozen=True)
class DeadlineKnobs:
    """`request_s`: time limit of a whole request. `store_s`: time limit of one call to a store."""

    request_s: float = 5.0
    store_s: float = 2.0


@dataclass(frozen=True)
class BreakerKnobs:
    """Circuit breakers.

    `failures`: consecutive failures that open a breaker; 0 disables breakers. `open_s`: time after which an
    open breaker admits a trial call.
    """

    failures: int = 20
    open_s: float = 1.0


@dataclass(frozen=True)
class ShedKnobs:
    """Load shedding: which requests a gateway refuses with 503 before any work.

    `max_in_flight`: concurrent requests in one gateway; 0 disables the check. HAProxy admits 256 to a gateway
    and queues the others. So a value below 256 refuses requests that would have waited, and a value above 256
    protects only a gateway that is called directly.

    `queue_target_s`, `queue_interval_s`: a request is refused if it waited longer than `queue_target_s` since
    it arrived at the public load balancer, and so did every request of the last `queue_interval_s` (the CoDel
    rule: a queue that never empties is not a buffer). A target of 0 disables the check. The defaults tolerate
    a queue that a restarted or added instance would clear.
    """

    max_in_flight: int = 512
    queue_target_s: float = 1.0
    queue_interval_s: float = 2.0


@dataclass(frozen=True)
class LimitKnobs:
    """Rate limits: requests that one caller may send within any `window_s`.

    A limit of 0 means no limit for that class; a window of 0 disables all limits.

    `read`, `search`, `write`: by one user to one route of that class. `user`: by one user to all routes
    together. `sign_up`, `token`: by one client address to those routes. `login`: token requests for one user
    name. `max_gateways`: maximum number of gateways; while the shared counters are unavailable, each gateway
    admits limit / `max_gateways`. The defaults are so high that no shipped scenario reaches them: the busiest
    of 2,000 Zipf readers sends 43 of 800 reads/s.
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
    """Maximum concurrent calls from one process to each dependency; 0 is no limit.

    Further calls wait for a slot, at most for the timeout of the dependency.

    `postgres`: connections per pool of a process; 0 for the size that the code of the service sets.
    `service`: requests of one gateway in flight to one service. With 96, two services that hang leave 64 of
    the 256 requests that HAProxy admits to a gateway.
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
    """Time limit of one call to each dependency; 0 means `deadline.store_s`."""

    redis_s: float = 0.0
    cassandra_s: float = 0.0
    postgres_s: float = 0.0
    kafka_s: float = 0.0
    elasticsearch_s: float = 0.0
    minio_s: float = 0.0


@dataclass(frozen=True)
class CoalesceKnobs:
    """Single-flight for cache misses.

    `misses`: 1: callers that miss the same cache entry share one read of the source. 0: each caller reads.
    """

    misses: int = 1


@dataclass(frozen=True)
class AutoscaleKnobs:
    """How many instances each service runs, between `min` and `max`; a `max` of 0 disables autoscaling.

    `cpu`, `in_flight` and `queue_s` are targets; the most exceeded one decides, and a target of 0 is ignored.
    `cpu`: fraction of an instance's CPU quota (of one core without a quota). `in_flight`: concurrent requests
    in an instance. `queue_s`: wait in HAProxy for a slot of an instance; with this target an instance has 32
    slots instead of 256, so that excess requests wait in HAProxy, where the wait is measured.

    `hysteresis`: fraction around a target within which nothing changes. `cool_down_s`: time after a change
    until instances may be added again. `calm_s`: how long one instance fewer must have been enough before one
    is removed.
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

    `eject_errors`: errors per second at which an instance is ejected if the error rate of its siblings is at
    most half of its own; 0 disables ejection. `eject_s`: duration of an ejection. `heal_s`: time for which an
    instance must fail its health checks before it is replaced; 0 disables replacement.
    """

    eject_errors: int = 5
    eject_s: float = 5.0
    heal_s: float = 5.0


@dataclass(frozen=True)
class SearchKnobs:
    """How search ranks, and how the indexer works.

    `half_life_s`: age at which the part of a tweet's rank that decays has fallen to one half. `floor`:
    fraction of the rank that does not decay. `band`: number of matches that are ranked together, the newest
    first; the next older ones follow (the default is Elasticsearch's own limit of a result window). `view_s`:
    how long the point-in-time view of a paged search is kept after its last use. `gather_s`: pause between
    bulk requests under load. `keep_deleted_s`: how long a deleted tweet remains as a document, so that no
    late write restores it.
    """

    half_life_s: float = 86_400.0
    floor: float = 0.1
    band: int = 10_000
    view_s: float = 120.0
    gather_s: float = 0.15
    keep_deleted_s: float = 86_400.0


@dataclass(frozen=True)
class MediaKnobs:
    """How long links to media are valid, and when orphaned media are removed, in seconds.

    `link_s`: validity of a signed read link. Whoever has the link can read for that long, even if they lose
    access in the meantime. `unfinished_s`: age at which an upload that was never finalized is removed (its
    URL is valid for 900 s), and at which the cleanup checks that the tweet of an attached picture exists.
    `unattached_s`: age at which a finalized picture without a tweet is removed. `sweep_s`: pause between two
    cleanups; 0 disables the cleanup.
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
        """Return the time limit of one call to `dependency`, in seconds."""
        own: float = getattr(self.timeout, f"{dependency}_s", 0.0)
        return own or self.deadline.store_s

    def to_json(self) -> str:
        """Return the knobs as one JSON object, the format of the environment variable `TWEETLAB_POLICIES`."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def from_json(text: str) -> Policies:
    """Return the knobs in `text`; omitted knobs have their defaults. Raises WrongInput, naming the knob."""
    try:
        values = numbers.parse_json(text) if text.strip() else {}
    except ValueError as problem:
        raise WrongInput(f"The policies (TWEETLAB_POLICIES) cannot be read: {problem}") from None
    if not isinstance(values, dict):
        raise WrongInput(f"The policies (TWEETLAB_POLICIES) are {text[:40]!r}; they must be a JSON object.")
    return from_dict(values)


def from_dict(values: dict[str, Any]) -> Policies:
    """Return the knobs in a nested dict, group -> knob -> number (units as in the field names).

    Omitted knobs have their defaults. Raises WrongInput for an unknown or invalid knob.
    """
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
