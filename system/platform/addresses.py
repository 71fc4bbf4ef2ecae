"""Where each node listens: a lab in range n is the network 127.<n>.0.0/16; its region r, if it has regions,
10.<n+r-1>.0.0/16; in containers it is the bridge network 198.18.<n>.0/24.

The third octet is the kind, the fourth the instance, the port the server's standard port, so no two
nodes share an address and no port arithmetic is needed. TWEETLAB_RANGE selects the range.

On a bridge the fourth octet of a first instance is the number of its kind, so 127.1.30.1 is 198.18.1.30 there;
further instances have numbers that no kind uses (docs/decisions/0020). 198.18.0.0/15 is reserved for benchmarks
(RFC 2544): no machine's own network is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from system.kernel.errors import WrongInput

KINDS: dict[str, tuple[int, int]] = {  # kind -> (third octet, port)
    "wan": (6, 9),  # answers on a Unix socket, listens nowhere
    "pdns": (7, 5300),
    "nginx": (8, 8080),
    "haproxy": (9, 8080),
    "cassandra": (10, 9042),
    "kafka": (20, 9092),
    "redis": (30, 6379),
    "limits": (31, 6379),
    "sentinel": (32, 26379),
    "postgres": (40, 5432),
    "etcd": (41, 2379),
    "minio": (50, 9000),
    "elasticsearch": (60, 9200),
    "prometheus": (70, 9090),
    "alertmanager": (71, 9093),
    "jaeger": (72, 16686),
    "rsyslog": (73, 10514),  # reads files, listens nowhere
    "receiver": (74, 8000),
    "exporter": (75, 8000),
    "gateway": (100, 8000),
    "users": (101, 8000),
    "tweets": (102, 8000),
    "timelines": (103, 8000),
    "search": (104, 8000),
    "media": (105, 8000),
    "likes": (106, 8000),
    "fanout": (110, 8000),
    "indexer": (111, 8000),
    "relay": (112, 8000),
    "liker": (113, 8000),
}

FURTHER_PORTS: dict[str, tuple[int, ...]] = {
    # Ports that a kind binds besides its own: peers, controllers, the mesh.
    "cassandra": (7000,),
    "etcd": (2380,),
    "postgres": (8008,),
    "kafka": (9093,),
    "elasticsearch": (9300,),
    "jaeger": (4317, 4318, 14250, 14268, 14269, 16685),
    "haproxy": (8101, 8102, 8103, 8104, 8105, 8106, 8404),
}

FIRST_SERVICE = 100  # kinds from this number on are our services, which scale
FURTHER_HOSTS: dict[str, tuple[int, ...]] = {
    # Fourth octet of the second and third instance on a bridge.
    "pdns": (13, 16),
    "nginx": (14, 17),
    "haproxy": (15, 18),
    "cassandra": (11, 12),
    "kafka": (21, 22),
    "redis": (33, 34),
    "sentinel": (35, 36),
    "postgres": (42, 43),
    "etcd": (44, 45),
    "minio": (51, 52),
    "elasticsearch": (61, 62),
}
FURTHER_SERVICES = range(114, 246)  # the same for services, an instance of each in turn
RENDER_HOST, PREPARE_HOST = 250, 251  # on a bridge: the two containers that set up the others

MAX_RANGE = 250  # 10.251 to 10.253 are the further regions of the last range


@dataclass(frozen=True)
class Plan:
    """The addresses of one lab.

    `range`: second octet of its network or of its first region's, 1 to 250. `bridge`: its nodes are containers
    on a bridge network.
    """

    range: int = 1
    bridge: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.range <= MAX_RANGE:
            raise WrongInput(f"TWEETLAB_RANGE is {self.range}; it must be a whole number from 1 to {MAX_RANGE}.")

    def host(self, kind: str, instance: int = 1, region: int = 0) -> str:
        """Return the address of a node: on loopback, or in a region's namespace.

        Raises WrongInput for an unknown kind.
        """
        if kind not in KINDS:
            raise WrongInput(f"The kind of node {kind!r} is unknown; known are {', '.join(sorted(KINDS))}.")
        if self.bridge:
            return self.on_bridge(_bridge_number(kind, instance))
        return f"{self._first(region)}.{KINDS[kind][0]}.{instance}"

    def loopback(self, kind: str, instance: int = 1, region: int = 0) -> str:
        """Return the node's loopback address: `host`, or in a region a second one that only regions reach."""
        return self.host(kind, instance, region).replace("10.", "127.", 1) if region else self.host(kind, instance)

    def network(self, region: int = 0) -> str:
        """Return the network of a region, or of a lab without regions, as a CIDR block."""
        if self.bridge:
            return f"{self.on_bridge(0)}/24"
        return f"{self._first(region)}.0.0/16"

    def on_bridge(self, number: int) -> str:
        """Return the address with this fourth octet on the lab's bridge network."""
        return f"198.18.{self.range}.{number}"

    def _first(self, region: int) -> str:
        return f"10.{self.range + region - 1}" if region else f"127.{self.range}"

    def of(self, kind: str, instance: int = 1, region: int = 0) -> str:
        """Return `host:port` of a node."""
        return f"{self.host(kind, instance, region)}:{KINDS[kind][1]}"

    def ports(self, kind: str) -> tuple[int, ...]:
        """Return every port that a node of this kind binds, its main port first."""
        return (KINDS[kind][1], *FURTHER_PORTS.get(kind, ()))


def _bridge_number(kind: str, instance: int) -> int:
    first = KINDS[kind][0]
    if instance == 1:
        return first
    if first < FIRST_SERVICE:
        numbers: Sequence[int] = FURTHER_HOSTS.get(kind, ())
    else:
        services = [number for number, _ in KINDS.values() if number >= FIRST_SERVICE]
        numbers = FURTHER_SERVICES[services.index(first)::len(services)]
    if instance - 2 >= len(numbers):
        raise WrongInput(f"{kind}-{instance} has no address on the bridge network; in containers there are at most "
                         f"{len(numbers) + 1} instances of {kind}.")
    return numbers[instance - 2]
