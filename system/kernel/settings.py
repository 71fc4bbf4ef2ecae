"""Settings that a process of the lab reads from its environment. Nothing connects here.

| variable | meaning | default |
|---|---|---|
| TWEETLAB_RANGE | second octet of region 1: 127.<range>.0.0/16 | 1 |
| TWEETLAB_NAMESPACE | keyspace, database, bucket, and prefix of topics, index and Redis keys | tweetlab |
| TWEETLAB_STORES | JSON, addresses of the stores | those of `small` in the range |
| TWEETLAB_MESH | JSON, service -> base URL behind HAProxy | those of `small` in the range |
| TWEETLAB_POLICIES | JSON, see `policies` | all defaults |
| TWEETLAB_LISTEN | host:port this process listens on | 127.0.0.1:8000 |
| TWEETLAB_INSTANCE | name of this process, for example timelines-1 | local-1 |
| TWEETLAB_JWT_SECRET | key that signs tokens, at least 32 bytes | none: a gateway refuses to start |
| TWEETLAB_JWT_SECRET_PREVIOUS | an older key whose tokens are still valid | none |
| TWEETLAB_CDN | base URLs of the CDN edges, separated by spaces; links point to the first | that of `small` in the range |
| TWEETLAB_MEDIA_ORIGINS | origins of the signed URLs of any instance, separated by spaces | its own storage and edge |
| TWEETLAB_MEMBERS | JSON, kind, address, name and zone of every node; only for the exporter | none: a lab without zones |
| TWEETLAB_EXPECTED | file that lists which processes are expected to run; only for the exporter | none: not reported |
| TWEETLAB_EDGE_SECRET | secret from which the keys of the edge derive | none: no link that the edge accepts |
| TWEETLAB_EFFECTS | directory for the effect logs of workers | none: no log |
| TWEETLAB_OTLP | base URL of an OTLP/HTTP collector for traces | none: nothing is traced |
| TWEETLAB_TRACE_RATIO | fraction of requests that the gateway traces, 0 to 1 | 0.01 |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from system.kernel import numbers, policies
from system.kernel.errors import WrongInput

MESH_PORTS = {"users": 8101, "tweets": 8102, "timelines": 8103, "search": 8104, "media": 8105, "likes": 8106}
DEFAULT_NAMESPACE = "tweetlab"
SENTINEL = "sentinel://"
TRACE_RATIO = 0.01


@dataclass(frozen=True)
class Stores:
    """Addresses of the stores. `host:port` without a scheme, except where a URL is named.

    `redis`: one server, or an address that `group_of` parses: a primary and replicas under sentinels. `near`:
    the first of `cassandra` is in the client's own region, and is the coordinator while it is available.
    `minio_spares`: further nodes of the same storage, used if `minio` does not answer.
    """

    cassandra: tuple[str, ...]
    kafka: tuple[str, ...]
    redis: str
    limits: str
    postgres_url: str
    minio: str
    minio_access_key: str
    minio_secret_key: str
    elasticsearch_urls: tuple[str, ...]
    minio_spares: tuple[str, ...] = ()
    near: bool = False


@dataclass(frozen=True)
class Group:
    """A Redis primary with replicas under sentinels.

    `name`: its master name; `servers`: primary and replicas, by instance.
    """

    sentinels: tuple[str, ...]
    name: str
    servers: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """The settings of one process; `from_env` builds it."""

    range: int
    namespace: str
    stores: Stores
    mesh: Mapping[str, str]
    policies: policies.Policies
    listen_host: str = "127.0.0.1"
    listen_port: int = 8000
    instance: str = "local-1"
    jwt_secret: str = field(default="", repr=False)
    jwt_secret_previous: str = field(default="", repr=False)
    effects: str = ""
    cdn: str = ""
    further_edges: tuple[str, ...] = ()
    media_origins: tuple[str, ...] = ()
    edge_secret: str = field(default="", repr=False)
    otlp: str = ""
    trace_ratio: float = TRACE_RATIO

    @property
    def key_prefix(self) -> str:
        """Return the prefix of Redis keys and topics: empty in the default namespace."""
        return "" if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}:"

    def topic(self, name: str) -> str:
        """Return the Kafka topic that carries `name` in this namespace."""
        return name if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}.{name}"


def default_stores(range_: int) -> dict[str, object]:
    """Return the addresses of `small` as TWEETLAB_STORES carries them."""
    net = f"127.{range_}"
    return {
        "cassandra": [f"{net}.10.1:9042"],
        "kafka": [f"{net}.20.1:9092"],
        "redis": f"{net}.30.1:6379",
        "limits": f"{net}.31.1:6379",
        "postgres": f"postgresql://tweetlab@{net}.40.1:5432",
        "minio": {"endpoint": f"{net}.50.1:9000", "access_key": "tweetlab", "secret_key": "tweetlab-secret"},
        "elasticsearch": [f"http://{net}.60.1:9200"],
    }


def default_mesh(range_: int) -> dict[str, str]:
    """Return the base URL of each service behind the mesh of `small`."""
    return {name: f"http://127.{range_}.9.1:{port}" for name, port in MESH_PORTS.items()}


def from_env(env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in `env` (default: this process' environment). Raises WrongInput, naming the variable."""
    env = os.environ if env is None else env
    range_ = range_of(env.get("TWEETLAB_RANGE", "1"))
    host, port = _listen(env.get("TWEETLAB_LISTEN", "127.0.0.1:8000"))
    edges = tuple(env.get("TWEETLAB_CDN", "").split()) or (f"http://127.{range_}.8.1:8080",)
    return Settings(
        range=range_,
        namespace=env.get("TWEETLAB_NAMESPACE", DEFAULT_NAMESPACE),
        stores=parse_stores(_json(env, "TWEETLAB_STORES") or default_stores(range_)),
        mesh={str(k): str(v) for k, v in (_json(env, "TWEETLAB_MESH") or default_mesh(range_)).items()},
        policies=policies.from_json(env.get("TWEETLAB_POLICIES", "")),
        listen_host=host,
        listen_port=port,
        instance=env.get("TWEETLAB_INSTANCE", "local-1"),
        jwt_secret=env.get("TWEETLAB_JWT_SECRET", ""),
        jwt_secret_previous=env.get("TWEETLAB_JWT_SECRET_PREVIOUS", ""),
        effects=env.get("TWEETLAB_EFFECTS", ""),
        cdn=edges[0],
        further_edges=edges[1:],
        media_origins=tuple(env.get("TWEETLAB_MEDIA_ORIGINS", "").split()),
        edge_secret=env.get("TWEETLAB_EDGE_SECRET", ""),
        otlp=env.get("TWEETLAB_OTLP", "").strip(),
        trace_ratio=_share(env, "TWEETLAB_TRACE_RATIO", TRACE_RATIO),
    )


def parse_stores(raw: Mapping[str, object]) -> Stores:
    """Return the addresses in a TWEETLAB_STORES object. `postgres` is a URL without a database name."""
    try:
        minio = raw["minio"]
        assert isinstance(minio, Mapping)
        return Stores(
            cassandra=_strings(raw["cassandra"]),
            kafka=_strings(raw["kafka"]),
            redis=_cache(str(raw["redis"])),
            limits=str(raw["limits"]),
            postgres_url=str(raw["postgres"]),
            minio=str(minio["endpoint"]),
            minio_access_key=str(minio["access_key"]),
            minio_secret_key=str(minio["secret_key"]),
            elasticsearch_urls=_strings(raw["elasticsearch"]),
            minio_spares=_strings(minio["spares"]) if "spares" in minio else (),
            near=bool(raw.get("near")),
        )
    except (KeyError, AssertionError, TypeError) as problem:
        raise WrongInput(f"TWEETLAB_STORES lacks or misnames {problem}; `tweetlab up --json` prints a valid one.") from None


def group_of(address: str) -> Group | None:
    """Parse `sentinel://h1:p,h2:p/name?servers=h1:p,h2:p`; None for the address of one server.

    Raises WrongInput.
    """
    if not address.startswith(SENTINEL):
        return None
    sentinels, _, rest = address.removeprefix(SENTINEL).partition("/")
    name, _, servers = rest.partition("?servers=")
    group = Group(tuple(sentinels.split(",")), name, tuple(servers.split(",")))
    parts = [member.rpartition(":") for member in group.sentinels + group.servers]
    if not name or not all(host and port.isdigit() for host, _, port in parts):
        raise WrongInput(f"The cache's address in TWEETLAB_STORES is {address!r}; it must be host:port or "
                         "sentinel://host:port,host:port/name?servers=host:port,host:port.")
    return group


def _cache(address: str) -> str:
    group_of(address)  # rejected here, not at the first use
    return address


def _strings(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple) or not raw:
        raise TypeError(f"{raw!r}, which must be a list of addresses")
    return tuple(str(item) for item in raw)


def _share(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip()
    try:
        share = numbers.parse_decimal(text) if text else default
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise WrongInput(f"{name} is {text!r}; it must be a number from 0 (none) to 1 (all).")
    return share


def range_of(text: str) -> int:
    """Return the value of TWEETLAB_RANGE. Raises WrongInput outside 1 to 250."""
    try:
        return numbers.parse_int(text, 1, 250)
    except ValueError:
        raise WrongInput(f"TWEETLAB_RANGE is {text[:40]!r}; it must be a whole number from 1 to 250 "
                         "(127.<range>.0.0/16).") from None


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    try:
        number = numbers.parse_int(port, 1, 65535)
    except ValueError:
        number = 0
    if not host or not number:
        raise WrongInput(f"TWEETLAB_LISTEN is {text[:80]!r}; it must be host:port with a port from 1 to "
                         "65535.")
    return host, number


def _json(env: Mapping[str, str], name: str) -> dict[str, object]:
    text = env.get(name, "").strip()
    try:
        value = numbers.parse_json(text) if text else {}
    except ValueError as problem:
        raise WrongInput(f"{name} cannot be read: {problem} Unset it to use the addresses of the "
                         "range.") from None
    if not isinstance(value, dict):
        raise WrongInput(f"{name} must be a JSON object; it is a {type(value).__name__}.")
    return value
