"""The boxes of the data flow and the hops between them.

`BOXES` is the table; a kind without a row is shown at the end.

A hop's figures come from its caller: HAProxy counts the requests that it forwards, a process exports its
calls by dependency, a worker the records that it consumed from Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from system.kernel import events
from tweetlab.console.haproxy_stats import Row
from tweetlab.console.scrape import Growth, percentile, split


@dataclass(frozen=True)
class Box:
    """One box of the data flow.

    `lane`: edge, services, stores, workers, quorum or watch. `what`: in a few words.
    """

    title: str
    lane: str
    what: str


BOXES: dict[str, Box] = {
    "pdns": Box("PowerDNS", "edge", "names of healthy load balancers"),
    "nginx": Box("nginx", "edge", "CDN edge for pictures"),
    "haproxy": Box("HAProxy", "edge", "load balancer and mesh"),
    "gateway": Box("Gateway", "edge", "tokens, limits, deadlines"),
    "limits": Box("Redis limits", "edge", "rate limits"),
    "timelines": Box("Timelines", "services", "home timelines"),
    "tweets": Box("Tweets", "services", "post, read, delete"),
    "users": Box("Users", "services", "profiles, follows"),
    "likes": Box("Likes", "services", "likes and their counts"),
    "search": Box("Search", "services", "full text, hashtags"),
    "media": Box("Media", "services", "signed uploads, reads"),
    "redis": Box("Redis", "stores", "timelines, hot tweets"),
    "cassandra": Box("Cassandra", "stores", "tweets"),
    "kafka": Box("Kafka", "stores", "events"),
    "postgres": Box("PostgreSQL", "stores", "users, follows, keys"),
    "elasticsearch": Box("Elasticsearch", "stores", "search index"),
    "minio": Box("MinIO", "stores", "pictures"),
    "fanout": Box("Fan-out", "workers", "pushes to timelines"),
    "relay": Box("Relay", "workers", "publishes the outbox"),
    "liker": Box("Liker", "workers", "recounts likes"),
    "indexer": Box("Indexer", "workers", "writes the index"),
    "etcd": Box("etcd", "quorum", "elects PostgreSQL's primary"),
    "sentinel": Box("Sentinel", "quorum", "elects Redis' primary"),
    "wan": Box("WAN emulator", "quorum", "links between regions"),
    "prometheus": Box("Prometheus", "watch", "metrics, rules"),
    "alertmanager": Box("Alertmanager", "watch", "alerts"),
    "jaeger": Box("Jaeger", "watch", "traces"),
    "rsyslog": Box("rsyslog", "watch", "logs to the index"),
    "exporter": Box("Exporter", "watch", "metrics of the stores"),
    "receiver": Box("Receiver", "watch", "incidents sent to pagers"),
}
GROUPS = events.GROUPS
"""Consumer groups whose lag is read before they export what they consume.

A group is named after its worker.
"""


@dataclass
class Hop:
    """Calls from one kind to another: `rate` and `errors` per second; `p50_ms`, `p99_ms`: None if unknown."""

    source: str
    target: str
    rate: float = 0.0
    errors: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, rounded for display."""
        return {"source": self.source, "target": self.target, "rate": round(self.rate, 1), "errors": round(self.errors, 1),
                "p50_ms": self.p50_ms and round(self.p50_ms, 2), "p99_ms": self.p99_ms and round(self.p99_ms, 2)}


def box_of(kind: str) -> Box:
    """Return the box of a kind of node."""
    return BOXES.get(kind) or Box(kind, "watch", "")


def through_haproxy(before: Iterable[Row], after: Iterable[Row], took_s: float) -> list[Hop]:
    """Return the hops through HAProxy: from clients to it, from it to the gateways, from the gateways to each service."""
    previous = {(row.proxy, row.place): row for row in before}
    hops = []
    for row in after:
        old = previous.get((row.proxy, row.place))
        if old is None or took_s <= 0:
            continue
        grew = row.requests - old.requests if row.requests >= old.requests else row.requests
        failed = row.errors - old.errors if row.errors >= old.errors else row.errors
        ends = _ends(row)
        if ends:
            hops.append(Hop(*ends, grew / took_s, failed / took_s))
    return hops


def _ends(row: Row) -> tuple[str, str] | None:
    if row.proxy == "gateway":
        return {"FRONTEND": ("clients", "haproxy"), "BACKEND": ("haproxy", "gateway")}.get(row.place)
    return ("gateway", row.proxy) if row.place == "BACKEND" and row.proxy in BOXES else None


@dataclass
class Flow:
    """Sums of the calls between two kinds, before they become a hop."""

    calls: float = 0.0
    errors: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)

    def hop(self, source: str, target: str) -> Hop:
        """Return the hop: rates a second, percentiles in ms."""
        p50, p99 = percentile(self.buckets, 0.5), percentile(self.buckets, 0.99)
        return Hop(source, target, self.calls, self.errors, p50 and p50 * 1e3, p99 and p99 * 1e3)


def calls(grown: Mapping[str, list[Growth]]) -> list[Hop]:
    """Return the hops that processes export. `grown`: kind -> increases in each of its processes."""
    flows: dict[tuple[str, str], Flow] = {}
    for kind, parts in grown.items():
        for part in parts:
            if part.took_s > 0:
                _dependencies(kind, part, flows)
                for _, value in part.of("tweetlab_consumed_total"):
                    flows.setdefault(("kafka", kind), Flow()).calls += value / part.took_s
                for labels, value in part.of("tweetlab_cache_requests_total"):
                    if labels["cache"] == "edge":  # the media service counts for the CDN edge
                        flows.setdefault(("clients", "nginx"), Flow()).calls += value / part.took_s
    return [flow.hop(*ends) for ends, flow in flows.items()]


def _dependencies(kind: str, part: Growth, flows: dict[tuple[str, str], Flow]) -> None:
    for labels, value in part.of("tweetlab_dependency_seconds_count"):
        flow = flows.setdefault((kind, labels["dependency"]), Flow())
        flow.calls += value / part.took_s
        flow.errors += value / part.took_s if labels["result"] != "ok" else 0.0
    for labels, value in part.of("tweetlab_dependency_seconds_bucket"):
        buckets = flows.setdefault((kind, labels["dependency"]), Flow()).buckets
        bound = float(labels["le"])
        buckets[bound] = buckets.get(bound, 0.0) + value


def joined(*sources: Iterable[Hop]) -> list[Hop]:
    """Return one hop per pair of kinds: rates of the first source that has it, percentiles of the first that knows them."""
    by_ends: dict[tuple[str, str], Hop] = {}
    for hops in sources:
        for hop in hops:
            known = by_ends.setdefault((hop.source, hop.target), hop)
            known.p50_ms, known.p99_ms = known.p50_ms or hop.p50_ms, known.p99_ms or hop.p99_ms
    return list(by_ends.values())


def added(hops: Iterable[Hop]) -> list[Hop]:
    """Return one hop per pair of kinds with the sum of the rates: several HAProxies share the traffic."""
    by_ends: dict[tuple[str, str], Hop] = {}
    for hop in hops:
        known = by_ends.setdefault((hop.source, hop.target), Hop(hop.source, hop.target))
        known.rate, known.errors = known.rate + hop.rate, known.errors + hop.errors
    return list(by_ends.values())


def caches(grown: Mapping[str, list[Growth]]) -> dict[str, dict[str, float]]:
    """Return cache -> lookups per second and hit ratio (0 to 1), of caches with lookups."""
    sums: dict[str, list[float]] = {}
    for part in (part for parts in grown.values() for part in parts if part.took_s > 0):
        for labels, value in part.of("tweetlab_cache_requests_total"):
            both = sums.setdefault(labels["cache"], [0.0, 0.0])
            both[0] += value / part.took_s
            both[1] += value / part.took_s if labels["result"] == "hit" else 0.0
    return {name: {"rate": round(rate, 1), "hits": round(hits / rate, 4)} for name, (rate, hits) in sums.items() if rate}


def breakers(values: Mapping[str, Mapping[str, float]]) -> list[dict[str, str]]:
    """Return the circuit breakers that are not closed. `values`: node -> series -> current value."""
    words = {1.0: "half-open", 2.0: "open"}
    return [{"node": node, "dependency": split(series)[1]["dependency"], "state": words[value]}
            for node, series_values in values.items() for series, value in series_values.items()
            if series.startswith("tweetlab_breaker_state{") and value in words]


def groups(grown: Mapping[str, list[Growth]], kinds: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return group -> topics of the running workers: those they export, and those known beforehand."""
    present = set(kinds)
    topics_of = {name: set(topics) for name, topics in GROUPS.items() if name in present}
    for parts in grown.values():
        for part in parts:
            for labels, _ in part.of("tweetlab_consumed_total"):
                topics_of.setdefault(labels["group"], set()).add(labels["topic"])
    return {name: tuple(sorted(topics)) for name, topics in topics_of.items()}


def routes(parts: Iterable[Growth]) -> tuple[dict[str, dict[str, float | None]], dict[float, float]]:
    """Return (route -> rate, errors, p50_ms, p99_ms at the gateways; the buckets of all routes together)."""
    flows: dict[str, Flow] = {}
    all_routes: dict[float, float] = {}
    for part in parts:
        if part.took_s <= 0:
            continue
        for labels, value in part.of("tweetlab_request_seconds_count"):
            flow = flows.setdefault(labels["route"], Flow())
            flow.calls += value / part.took_s
            flow.errors += value / part.took_s if labels["status"].startswith("5") else 0.0
        for labels, value in part.of("tweetlab_request_seconds_bucket"):
            bound, buckets = float(labels["le"]), flows.setdefault(labels["route"], Flow()).buckets
            buckets[bound] = buckets.get(bound, 0.0) + value
            all_routes[bound] = all_routes.get(bound, 0.0) + value
    rows: dict[str, dict[str, float | None]] = {}
    for name, flow in flows.items():
        if not flow.calls:
            continue
        hop = flow.hop("", name)
        rows[name] = {"rate": round(hop.rate, 1), "errors": round(hop.errors, 1), "p50_ms": hop.p50_ms, "p99_ms": hop.p99_ms}
    return rows, all_routes
