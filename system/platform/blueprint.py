"""Blueprints: which nodes a lab has and how each process runs. A blueprint is only data.

To add a blueprint, add a row to `BLUEPRINTS`. How a process runs (nice value, heap, garbage collector,
processors) is declared here because it affects what a run measures; the record of a run contains it.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any, Literal

from system.kernel import wan
from system.kernel.errors import WrongInput

# Timer slack of Cassandra. An idle worker thread of its stages sleeps 10 µs at a time before it gives up:
# 25,000 sleeps per second in all threads at 140 posts/s, two thirds of Cassandra's CPU. Measured CPU per post
# at 140 posts/s: 3.6 ms with the kernel's slack of 50 µs, 2.3 ms with 200 µs, 1.8 ms with 1,000 µs.
CASSANDRA_SLACK_US = 1_000

# Sentinel replaces a primary within 3.3 to 5 s; it repeats a failed election after 6 s (1 of 62: 9.7 s in
# total).
REDIS_HEAL_PAUSE_S = 12.0

# Patroni replaces a primary after its ttl (6 s), which a simultaneous election in etcd restarts. Measured:
# 5.6 to 9.6 s, n = 22.
POSTGRES_HEAL_PAUSE_S = 12.0

Role = Literal["network", "store", "mesh", "service", "observer"]
STORE_KINDS = ("redis", "limits", "postgres", "minio", "cassandra", "kafka", "elasticsearch")
SERVICE_MODULES = {  # kind -> the module that `python -m` runs
    "gateway": "system.services.gateway.app",
    "users": "system.services.users.app",
    "tweets": "system.services.tweets.app",
    "timelines": "system.services.timelines.app",
    "search": "system.services.search.app",
    "media": "system.services.media.app",
    "likes": "system.services.likes.app",
    "fanout": "system.services.fanout.worker",
    "indexer": "system.services.search.worker",
    "liker": "system.services.likes.worker",
    "relay": "system.services.relay.worker",
}


@dataclass(frozen=True)
class Running:
    """How one process runs.

    `own_session`: it runs in its own scheduler group (autogroup). `nice`: -20 to 19, 0 is normal. `heap_mib`,
    `gc`, `processors`: JVM heap, garbage collector and ActiveProcessorCount; None or "" without a JVM.
    `cpu_quota_cores`: maximum CPU in cores; None is no limit. `timer_slack_us`: how late the kernel may fire
    timers of this process, to wake it less often; 0 is the kernel's default of 50. `heal_pause_s`: minimum
    time from its death to its restart. For members of a failover group it is long enough for the others to
    elect a new primary; otherwise the dead one would return as the primary.
    """

    own_session: bool = True
    nice: int = 0
    heap_mib: int | None = None
    gc: str = ""
    processors: int | None = None
    cpu_quota_cores: float | None = None
    timer_slack_us: int = 0
    heal_pause_s: float = 0.0


@dataclass(frozen=True)
class Node:
    """One node.

    `memory_mib`: expected resident memory. `module`: the Python module to run; "" for third-party servers.
    `zone`: failure domain, from 1; 0 if the blueprint has no zones. `region`: number of the region
    (`kernel/wan.NAMES`), each a network namespace; 0 is the loopback of this machine.
    """

    name: str
    kind: str
    role: Role
    instance: int = 1
    region: int = 0
    zone: int = 0
    memory_mib: int = 100
    module: str = ""
    running: Running = field(default_factory=Running)


@dataclass(frozen=True)
class Blueprint:
    """A named set of nodes. Names are unique."""

    name: str
    nodes: tuple[Node, ...]

    def of_role(self, *roles: Role) -> tuple[Node, ...]:
        """Return the nodes of these roles, in blueprint order."""
        return tuple(node for node in self.nodes if node.role in roles)

    def of_kind(self, kind: str) -> tuple[Node, ...]:
        """Return the nodes of one kind, by instance."""
        return tuple(node for node in self.nodes if node.kind == kind)

    @property
    def in_regions(self) -> bool:
        """Whether its nodes are in regions, which the WAN emulator connects."""
        return bool(self.of_role("network"))

    def in_zone(self, zone: int) -> tuple[Node, ...]:
        """Return the nodes of one zone."""
        return tuple(node for node in self.nodes if node.zone == zone)

    def with_nodes_of(self, other: Blueprint) -> Blueprint:
        """Return this blueprint with the nodes of `other` that it lacks."""
        have = {node.name for node in self.nodes}
        return Blueprint(self.name, self.nodes + tuple(node for node in other.nodes if node.name not in have))

    def stores_only(self) -> Blueprint:
        """Return this blueprint without mesh and services."""
        return Blueprint(self.name, self.of_role("network", "store"))

    def to_json(self) -> dict[str, Any]:
        """Return the blueprint as plain JSON values."""
        return dataclasses.asdict(self)


def from_json(raw: dict[str, Any]) -> Blueprint:
    """Return the blueprint that `Blueprint.to_json` wrote."""
    nodes = tuple(Node(**{**node, "running": Running(**node["running"])}) for node in raw["nodes"])
    return Blueprint(str(raw["name"]), nodes)


def _store(kind: str, memory_mib: int, running: Running | None = None, zone: int = 0) -> Node:
    return Node(f"{kind}-{zone or 1}", kind, "store", zone or 1, zone=zone, memory_mib=memory_mib, running=running or Running())


def _service(kind: str, zone: int = 0) -> Node:
    memory_mib = 150 if kind == "media" else 80  # ExifTool takes 60 MiB, and the bytes of the pictures
    return Node(f"{kind}-{zone or 1}", kind, "service", zone or 1, zone=zone, memory_mib=memory_mib, module=SERVICE_MODULES[kind])


def _small() -> Blueprint:
    # Heap and memory sizes were measured on 2 cores; see the module of each server.
    jvm = Running(gc="Serial", processors=2)
    stores = (
        _store("redis", 60),
        _store("limits", 15),
        _store("postgres", 120),
        _store("minio", 150),
        _store("cassandra", 800, dataclasses.replace(jvm, heap_mib=384, timer_slack_us=CASSANDRA_SLACK_US)),
        _store("kafka", 360, dataclasses.replace(jvm, heap_mib=256)),
        _store("elasticsearch", 700, dataclasses.replace(jvm, heap_mib=400)),
    )
    mesh = (Node("haproxy-1", "haproxy", "mesh", memory_mib=30), Node("cdn-1", "nginx", "mesh", memory_mib=30))
    return Blueprint("small", stores + mesh + tuple(_service(kind) for kind in SERVICE_MODULES))


def _cluster() -> Blueprint:
    """Three zones: two that serve, and a third that only votes. Instance numbers are zone numbers."""
    jvm = Running(gc="Serial", processors=2)
    cassandra = dataclasses.replace(jvm, heap_mib=256, timer_slack_us=CASSANDRA_SLACK_US)
    kafka, elastic = dataclasses.replace(jvm, heap_mib=192), dataclasses.replace(jvm, heap_mib=300)
    everywhere = [
        node
        for zone in (1, 2, 3)
        for node in (
            _store("etcd", 40, zone=zone),
            _store("sentinel", 10, zone=zone),
            _store("postgres", 130, Running(heal_pause_s=POSTGRES_HEAL_PAUSE_S), zone),
            _store("minio", 130, zone=zone),
            _store("cassandra", 650, cassandra, zone),
            _store("kafka", 320, kafka, zone),
            _store("elasticsearch", 600 if zone < 3 else 450, elastic, zone),
        )
    ]
    serving = [
        node
        for zone in (1, 2)
        for node in (
            _store("redis", 60, Running(heal_pause_s=REDIS_HEAL_PAUSE_S), zone),
            Node(f"pdns-{zone}", "pdns", "mesh", zone, zone=zone, memory_mib=65),
            Node(f"haproxy-{zone}", "haproxy", "mesh", zone, zone=zone, memory_mib=30),
            Node(f"cdn-{zone}", "nginx", "mesh", zone, zone=zone, memory_mib=30),
            *(_service(kind, zone) for kind in SERVICE_MODULES),
        )
    ]
    return Blueprint("cluster", (*everywhere, _store("limits", 15, zone=1), *serving))


def _two_regions() -> Blueprint:
    """The cluster with a region for each zone: east and west serve, a witness votes.

    The WAN emulator connects them.
    """
    nodes = [dataclasses.replace(node, region=node.zone) for node in _cluster().nodes]
    return Blueprint("two_regions", (Node("wan-1", "wan", "network", memory_mib=30), *nodes))


BLUEPRINTS: dict[str, Blueprint] = {"small": _small(), "cluster": _cluster(), "two_regions": _two_regions()}

OBSERVERS: tuple[Node, ...] = (
    # The observability stack of --observe; without it none of these is fetched or started.
    Node("prometheus-1", "prometheus", "observer", memory_mib=120),
    Node("alertmanager-1", "alertmanager", "observer", memory_mib=40),
    Node("jaeger-1", "jaeger", "observer", memory_mib=120),
    Node("rsyslog-1", "rsyslog", "observer", memory_mib=25),
    Node("receiver-1", "receiver", "observer", memory_mib=45, module="system.observe.receiver"),
    Node("exporter-1", "exporter", "observer", memory_mib=80, module="system.observe.exporter"),
)


def with_observers(blueprint: Blueprint) -> Blueprint:
    """Return `blueprint` with the observability stack.

    It keeps its name, since none of these nodes serves users.
    """
    have = {node.name for node in blueprint.nodes}
    region = wan.OUTSIDE if blueprint.in_regions else 0  # services in namespaces can reach it too
    added = tuple(dataclasses.replace(node, region=region) for node in OBSERVERS if node.name not in have)
    return Blueprint(blueprint.name, blueprint.nodes + added)


def load(name: str) -> Blueprint:
    """Return the blueprint called `name`. Raises WrongInput, with the closest known name."""
    if name in BLUEPRINTS:
        return BLUEPRINTS[name]
    near = difflib.get_close_matches(name, BLUEPRINTS, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise WrongInput(f"The blueprint {name!r} is unknown; known are {', '.join(sorted(BLUEPRINTS))}.{hint}")
