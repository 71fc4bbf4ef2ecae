"""One question a store: what it tells of itself, as samples. `READERS` is the table: a further store is a function and a row.

A reader raises whatever its driver raises; then the exporter tells that the store did not answer, and makes a new reader. The
readers of Cassandra and Kafka keep their clients: to make one costs more than a hundred questions.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from system.kernel import events, numbers, wan
from system.kernel.settings import Settings, group_of
from system.observe import copies
from system.platform import health
from system.platform.servers import sentinel as sentinels
from system.platform.servers import wan as carrier

if TYPE_CHECKING:
    from system.stores.cassandra.driver import Bridge

ANSWER_S = 4.0      # longest wait for one store
ES_PARTS = "jvm,indices,thread_pool"
ES_FIELDS = ",".join(f"nodes.*.{path}" for path in (
    "jvm.mem.heap_used_in_bytes", "jvm.gc.collectors.*.collection_time_in_millis", "thread_pool.*.rejected", "indices.docs.count",
    "indices.*.total", "indices.*.*_total", "indices.*.*time_in_millis"))
ES_OPERATIONS = {  # operation -> (block, its count, its milliseconds)
    "index": ("indexing", "index_total", "index_time_in_millis"),
    "delete": ("indexing", "delete_total", "delete_time_in_millis"),
    "query": ("search", "query_total", "query_time_in_millis"),
    "fetch": ("search", "fetch_total", "fetch_time_in_millis"),
    "refresh": ("refresh", "total", "total_time_in_millis"),
    "merge": ("merges", "total", "total_time_in_millis"),
}
STANDBYS = ("SELECT application_name, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::float, "
            "coalesce(extract(epoch FROM replay_lag), 0)::float FROM pg_stat_replication WHERE state = 'streaming'")
CASSANDRA_POOLS = ("CompactionExecutor", "MemtableFlushWriter", "MutationStage", "Native-Transport-Requests", "ReadStage")
NODES = {"nginx": "cdn"}  # store -> name of its nodes, where that is another
GROUPS = {**events.GROUPS, "media": (events.TWEET_DELETED,)}  # those that must stand; who never committed is behind by all
ES_POOLS = ("write", "search", "get", "refresh")


@dataclass(frozen=True)
class Sample:
    """One value of one series of METRICS."""

    name: str
    value: float
    labels: dict[str, str]


Reader = Callable[[Settings, str, str], Awaitable[list[Sample]]]  # (settings, address, node) -> samples


async def redis(settings: Settings, address: str, node: str) -> list[Sample]:
    """INFO, read without a driver."""
    told = await copies.redis_info(address)
    # A database is `db0`; Redis 8 adds lines such as `db0_distrib_strings_sizes`.
    keys = sum(int(value.split(",")[0].removeprefix("keys=")) for name, value in told.items() if re.fullmatch(r"db\d+", name))
    at = {"node": node}
    return [
        Sample("tweetlab_redis_memory_bytes", float(told["used_memory"]), at),
        Sample("tweetlab_redis_keys", keys, at),
        Sample("tweetlab_redis_clients", float(told["connected_clients"]), at),
        Sample("tweetlab_redis_commands_total", float(told["total_commands_processed"]), at),
        Sample("tweetlab_redis_lookups_total", float(told["keyspace_hits"]), {**at, "result": "hit"}),
        Sample("tweetlab_redis_lookups_total", float(told["keyspace_misses"]), {**at, "result": "miss"}),
        Sample("tweetlab_redis_evicted_total", float(told["evicted_keys"]), at),
        Sample("tweetlab_redis_cpu_seconds_total", float(told["used_cpu_user"]) + float(told["used_cpu_sys"]), at),
        *_redis_copies(told, node),
    ]


def _redis_copies(told: dict[str, str], node: str) -> list[Sample]:
    """Who is the primary, and how far its replicas are behind."""
    kind = node.rpartition("-")[0]
    samples = [Sample("tweetlab_store_primary", float(told["role"] == "master"), {"store": kind, "node": node})]
    for each in copies.redis_replicas(told):
        at = {"store": kind, "node": f"{kind}-{each['ip'].rpartition('.')[2]}"}  # the instance is the address' last number
        behind = max(0.0, float(told["master_repl_offset"]) - float(each["offset"]))
        samples += [Sample("tweetlab_copy_lag_bytes", behind, at), Sample("tweetlab_copy_lag_seconds", float(each["lag"]), at)]
    return samples


async def sentinel(settings: Settings, address: str, node: str) -> list[Sample]:
    """Only whether it answers."""
    await copies.redis_info(address)
    return []


def answering(path: str) -> Reader:
    """Return a reader that only finds out whether `path` is answered."""
    async def asked(settings: Settings, address: str, node: str) -> list[Sample]:
        await health.http(address, path)
        return []

    return asked


async def postgres(settings: Settings, address: str, node: str) -> list[Sample]:
    """pg_stat_database and pg_stat_activity."""
    from system.stores.postgres import pool

    url = pool.member_url(settings.stores.postgres_url, address, whatever=True)
    connection = await pool.connect(pool.database_url(url, settings.namespace), ANSWER_S)
    try:
        answer = await connection.execute(
            "SELECT xact_commit, xact_rollback, blks_hit, blks_read, deadlocks, pg_database_size(datname) "
            "FROM pg_stat_database WHERE datname = current_database()")
        row = await answer.fetchone()
        assert row is not None
        states = await connection.execute(
            "SELECT coalesce(state, 'none'), count(*), coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float "
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1")
        sessions = await states.fetchall()
        role = await (await connection.execute("SELECT NOT pg_is_in_recovery()")).fetchone()
        standbys = await (await connection.execute(STANDBYS)).fetchall() if role and role[0] else []
    finally:
        await connection.close()
    at = {"node": node}
    return [
        Sample("tweetlab_postgres_transactions_total", row[0], {**at, "result": "commit"}),
        Sample("tweetlab_postgres_transactions_total", row[1], {**at, "result": "rollback"}),
        Sample("tweetlab_postgres_blocks_total", row[2], {**at, "source": "cache"}),
        Sample("tweetlab_postgres_blocks_total", row[3], {**at, "source": "disk"}),
        Sample("tweetlab_postgres_deadlocks_total", row[4], at),
        Sample("tweetlab_postgres_size_bytes", row[5], at),
        Sample("tweetlab_postgres_longest_transaction_seconds", max((age for _, _, age in sessions), default=0.0), at),
        *(Sample("tweetlab_postgres_connections", count, {**at, "state": state}) for state, count, _ in sessions),
        Sample("tweetlab_store_primary", float(bool(role and role[0])), {"store": "postgres", **at}),
        *(Sample(name, float(value), {"store": "postgres", "node": member})
          for member, *lags in standbys for name, value in zip(("tweetlab_copy_lag_bytes", "tweetlab_copy_lag_seconds"), lags)),
    ]


class Cassandra:
    """The virtual tables of system_views, over one session."""

    def __init__(self) -> None:
        self._bridge: Bridge | None = None

    async def __call__(self, settings: Settings, address: str, node: str) -> list[Sample]:
        from system.stores.cassandra.driver import Bridge

        if self._bridge is None:
            self._bridge = await Bridge.open([address], consistency="ONE", deadline_s=ANSWER_S, alone=True)
        at, ours = {"node": node}, settings.namespace
        told = [Sample("tweetlab_cassandra_clients", len(await self._rows("address", "clients")), at)]
        for name, *counts in await self._rows("name, active_tasks, pending_tasks, blocked_tasks", "thread_pools"):
            told += [Sample("tweetlab_cassandra_tasks", float(n), {**at, "pool": name, "state": state})
                     for state, n in zip(("active", "pending", "blocked"), counts) if name in CASSANDRA_POOLS]
        told += [Sample("tweetlab_cassandra_disk_bytes", float(mebibytes) * 2**20, {**at, "table": table})
                 for keyspace, table, mebibytes in await self._rows("keyspace_name, table_name, mebibytes", "disk_usage")
                 if keyspace == ours]
        for kind in ("read", "write", "scan"):
            found = await self._rows("keyspace_name, table_name, count, p99th_ms", f"coordinator_{kind}_latency")
            for keyspace, table, count, p99_ms in found:
                if keyspace == ours:
                    labels = {**at, "table": table, "operation": kind}
                    told.append(Sample("tweetlab_cassandra_operations_total", float(count or 0), labels))
                    told.append(Sample("tweetlab_cassandra_p99_seconds", float(p99_ms or 0) / 1e3, labels))
        return told

    async def close(self) -> None:
        """Close the session."""
        if self._bridge is not None:
            await self._bridge.close()

    async def _rows(self, columns: str, table: str) -> list[tuple[Any, ...]]:
        assert self._bridge is not None
        return await self._bridge.run(f"SELECT {columns} FROM system_views.{table}", (), "tell its own counts")


async def elasticsearch(settings: Settings, address: str, node: str) -> list[Sample]:
    """_nodes/_local/stats."""
    import aiohttp

    url = f"http://{address}/_nodes/_local/stats/{ES_PARTS}?filter_path={ES_FIELDS}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as web, web.get(url) as answer:
        answer.raise_for_status()
        (told,) = (await answer.json())["nodes"].values()
    indices, at = told["indices"], {"node": node}
    gc_ms = sum(each["collection_time_in_millis"] for each in told["jvm"]["gc"]["collectors"].values())
    samples = [
        Sample("tweetlab_elasticsearch_heap_bytes", told["jvm"]["mem"]["heap_used_in_bytes"], at),
        Sample("tweetlab_elasticsearch_documents", indices["docs"]["count"], at),
        Sample("tweetlab_elasticsearch_gc_seconds_total", gc_ms / 1e3, at),
    ]
    for operation, (block, count, millis) in ES_OPERATIONS.items():
        labels = {**at, "operation": operation}
        samples.append(Sample("tweetlab_elasticsearch_operations_total", indices[block][count], labels))
        samples.append(Sample("tweetlab_elasticsearch_seconds_total", indices[block][millis] / 1e3, labels))
    health_of_all = await copies.elastic_health(address)
    samples.append(Sample("tweetlab_copies_missing", health_of_all["unassigned_shards"], {**at, "store": "elasticsearch"}))
    pools = told["thread_pool"]
    return samples + [Sample("tweetlab_elasticsearch_rejected_total", pools[pool]["rejected"], {**at, "pool": pool})
                      for pool in ES_POOLS if pool in pools]


async def nginx(settings: Settings, address: str, node: str) -> list[Sample]:
    """The edge's page of counts."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as web, web.get(f"http://{address}/nginx_status") as answer:
        answer.raise_for_status()
        words = (await answer.text()).split()
    at = {"node": node}
    states = {name: float(words[words.index(word) + 1]) for name, word in (
        ("active", "connections:"), ("reading", "Reading:"), ("writing", "Writing:"), ("waiting", "Waiting:"))}
    return [Sample("tweetlab_nginx_requests_total", float(words[words.index("requests") + 3]), at),
            *(Sample("tweetlab_nginx_connections", value, {**at, "state": name}) for name, value in states.items())]


def lags_of(committed: Mapping[Any, int], begins: Mapping[Any, int], ends: Mapping[Any, int],
            standing: Collection[str]) -> dict[str, int]:
    """Return topic -> records that a group has not committed, of `standing` and of each topic of which it committed a part.

    A place (topic, partition) of which nothing is committed (absent, or -1) counts from its begin, where the group will begin.
    """
    topics = {place.topic for place, offset in committed.items() if offset >= 0}.union(standing)
    lags: dict[str, int] = {}
    for place, end in ends.items():
        if place.topic in topics:
            lags[place.topic] = lags.get(place.topic, 0) + max(0, end - max(committed.get(place, -1), begins[place]))
    return lags


class Kafka:
    """End offsets of every topic, and how far each group is behind."""

    def __init__(self) -> None:
        self._control: Any = None
        self._looker: Any = None

    async def __call__(self, settings: Settings, address: str, node: str) -> list[Sample]:
        from aiokafka import TopicPartition

        if self._looker is None:
            await self._open(address)
        if not await self._tells(address):
            return []
        names = [name for name in await self._control.list_topics() if not name.startswith("__")]
        places = [TopicPartition(each["topic"], part["partition"])
                  for each in await self._control.describe_topics(names) for part in each["partitions"]]
        begins, ends = await self._looker.beginning_offsets(places), await self._looker.end_offsets(places)
        records: dict[str, int] = {}
        for place, end in ends.items():
            records[place.topic] = records.get(place.topic, 0) + end
        told = [Sample("tweetlab_kafka_records_total", end, {"topic": topic}) for topic, end in records.items()]
        standing = {settings.topic(group): {settings.topic(name) for name in topics} for group, topics in GROUPS.items()}
        listed = [group for group, *_ in await self._control.list_consumer_groups()]
        for group in dict.fromkeys([*listed, *standing]):
            committed = {place: at.offset for place, at in (await self._control.list_consumer_group_offsets(group)).items()}
            lags = lags_of(committed, begins, ends, standing.get(group, ()))
            told += [Sample("tweetlab_group_lag_records", lag, {"group": group, "topic": topic}) for topic, lag in lags.items()]
        short = copies.short_of(await copies.kafka_partitions(self._control))
        return [*told, Sample("tweetlab_copies_missing", short, {"store": "kafka", "node": node})]

    async def _tells(self, address: str) -> bool:
        """Say whether this broker is the first of those that live: one of them tells what all of them know."""
        brokers = (await self._control.describe_cluster())["brokers"]
        first = min(brokers, key=lambda each: int(each["node_id"]))
        return f"{first['host']}:{first['port']}" == address

    async def close(self) -> None:
        """Close both clients."""
        if self._looker is not None:
            await asyncio.gather(self._looker.stop(), self._control.close())

    async def _open(self, address: str) -> None:
        from aiokafka import AIOKafkaConsumer, admin

        from system.stores.kafka import link

        control = admin.AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=int(ANSWER_S * 1e3))
        await link.start_client(control, "connect")
        self._control, looker = control, AIOKafkaConsumer(bootstrap_servers=address)
        await link.start_client(looker, "connect")
        self._looker = looker


async def lines(settings: Settings, address: str, node: str) -> list[Sample]:
    """What the carrier between regions tells of each directed line. `address`: its socket."""
    samples = []
    for row in await carrier.ask_at(Path(address), {"op": "look"}):
        at = {"source": wan.NAMES[row["from"]], "target": wan.NAMES[row["to"]]}
        samples += [
            Sample("tweetlab_wan_packets_total", row["packets"], {**at, "fate": "carried"}),
            Sample("tweetlab_wan_packets_total", row["lost"], {**at, "fate": "lost"}),
            Sample("tweetlab_wan_bytes_total", row["bytes"], at),
            Sample("tweetlab_wan_delay_seconds", row["delay_s"], at),
            Sample("tweetlab_wan_cut", float(row["cut"]), at),
        ]
    return samples + await _active()


async def _active() -> list[Sample]:
    members = zones()
    named = await asyncio.to_thread(sentinels.named, [at for kind, at, *_ in members if kind == "sentinel"])
    return [Sample("tweetlab_region_active", float(at == named), {"region": wan.NAMES[zone]})
            for kind, at, _, zone in members if kind == "redis"]


READERS: dict[str, Callable[[], Reader]] = {  # store -> makes its reader
    "cassandra": Cassandra,
    "elasticsearch": lambda: elasticsearch,
    "etcd": lambda: answering("/health"),
    "kafka": Kafka,
    "limits": lambda: redis,
    "minio": lambda: answering("/minio/health/live"),
    "nginx": lambda: nginx,
    "postgres": lambda: postgres,
    "redis": lambda: redis,
    "sentinel": lambda: sentinel,
    "wan": lambda: lines,
}


def zones(env: Mapping[str, str] | None = None) -> list[tuple[str, str, str, int]]:
    """Return (kind, address, node, zone) of each node, as TWEETLAB_MEMBERS in `env` tells it; nothing of a lab without zones."""
    rows = numbers.parse_json((os.environ if env is None else env).get("TWEETLAB_MEMBERS") or "[]")
    return [(str(kind), str(address), str(node), int(zone)) for kind, address, node, zone in rows]


def addresses(settings: Settings) -> Sequence[tuple[str, str, str]]:
    """Return (store, address, node) of every store that the settings name. Nodes are numbered as blueprints do.

    Of a lab with zones every member is asked, those too that the settings of a service need not know.
    """
    if named := zones():
        return [(kind, address, node) for kind, address, node, _ in named if kind in READERS]
    stores, group = settings.stores, group_of(settings.stores.redis)
    caches = group.servers if group else (stores.redis,)
    rows: list[tuple[str, str, str]] = []
    for store, found in (("cassandra", stores.cassandra), ("kafka", stores.kafka[:1]), ("redis", caches),
                         ("limits", (stores.limits,)),
                         ("postgres", stores.postgres_url.rpartition("@")[2].partition("/")[0].split(",")),
                         ("nginx", (settings.cdn.rpartition("/")[2],)),
                         ("elasticsearch", tuple(url.removeprefix("http://") for url in stores.elasticsearch_urls))):
        rows += [(store, address, f"{NODES.get(store, store)}-{n}") for n, address in enumerate(found, 1)]
    return rows
