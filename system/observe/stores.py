"""Reads the metrics of the stores, as samples. To add a store, add a reader function and a row to `READERS`.

A reader raises the errors of its driver; the exporter then reports the store as down and creates a new
reader. The readers of Cassandra and Kafka keep their clients open, because creating one costs more than a
hundred queries.
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
from system.platform.servers import wan as wan_emulator

if TYPE_CHECKING:
    from system.stores.cassandra.driver import Bridge

ANSWER_S = 4.0      # timeout for one store
ES_PARTS = "jvm,indices,thread_pool"
ES_FIELDS = ",".join(f"nodes.*.{path}" for path in (
    "jvm.mem.heap_used_in_bytes", "jvm.gc.collectors.*.collection_time_in_millis", "thread_pool.*.rejected", "indices.docs.count",
    "indices.*.total", "indices.*.*_total", "indices.*.*time_in_millis"))
ES_OPERATIONS = {  # operation -> (block, count, milliseconds)
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
NODES = {"nginx": "cdn"}  # store -> name of its nodes, if it differs from the name of the store
# Consumer groups that are always reported. The lag of one that never committed is the whole topic.
GROUPS = {**events.GROUPS, "media": (events.TWEET_DELETED,)}
ES_POOLS = ("write", "search", "get", "refresh")


@dataclass(frozen=True)
class Sample:
    """One value of one time series; `name` is a metric of METRICS."""

    name: str
    value: float
    labels: dict[str, str]


Reader = Callable[[Settings, str, str], Awaitable[list[Sample]]]  # (settings, address, node) -> samples


async def redis(settings: Settings, address: str, node: str) -> list[Sample]:
    """Read INFO, over a plain socket instead of a driver."""
    info = await copies.redis_info(address)
    # `db0` is a database; Redis 8 adds lines such as `db0_distrib_strings_sizes`, which are not.
    keys = sum(int(value.split(",")[0].removeprefix("keys=")) for name, value in info.items() if re.fullmatch(r"db\d+", name))
    node_label = {"node": node}
    return [
        Sample("tweetlab_redis_memory_bytes", float(info["used_memory"]), node_label),
        Sample("tweetlab_redis_keys", keys, node_label),
        Sample("tweetlab_redis_clients", float(info["connected_clients"]), node_label),
        Sample("tweetlab_redis_commands_total", float(info["total_commands_processed"]), node_label),
        Sample("tweetlab_redis_lookups_total", float(info["keyspace_hits"]), {**node_label, "result": "hit"}),
        Sample("tweetlab_redis_lookups_total", float(info["keyspace_misses"]), {**node_label, "result": "miss"}),
        Sample("tweetlab_redis_evicted_total", float(info["evicted_keys"]), node_label),
        Sample("tweetlab_redis_cpu_seconds_total", float(info["used_cpu_user"]) + float(info["used_cpu_sys"]), node_label),
        *_redis_copies(info, node),
    ]


def _redis_copies(info: dict[str, str], node: str) -> list[Sample]:
    """Return whether this node is the primary, and the lag of its replicas."""
    kind = node.rpartition("-")[0]
    samples = [Sample("tweetlab_store_primary", float(info["role"] == "master"), {"store": kind, "node": node})]
    for replica in copies.redis_replicas(info):
        # The instance number is the last octet of the address.
        labels = {"store": kind, "node": f"{kind}-{replica['ip'].rpartition('.')[2]}"}
        lag_bytes = max(0.0, float(info["master_repl_offset"]) - float(replica["offset"]))
        samples += [Sample("tweetlab_copy_lag_bytes", lag_bytes, labels),
                    Sample("tweetlab_copy_lag_seconds", float(replica["lag"]), labels)]
    return samples


async def sentinel(settings: Settings, address: str, node: str) -> list[Sample]:
    """Return no samples; raise if the node does not respond."""
    await copies.redis_info(address)
    return []


def answering(path: str) -> Reader:
    """Return a reader that returns no samples and only checks that a GET of `path` succeeds."""
    async def check(settings: Settings, address: str, node: str) -> list[Sample]:
        await health.http(address, path)
        return []

    return check


async def postgres(settings: Settings, address: str, node: str) -> list[Sample]:
    """Read pg_stat_database and pg_stat_activity."""
    from system.stores.postgres import pool

    url = pool.member_url(settings.stores.postgres_url, address, whatever=True)
    connection = await pool.connect(pool.database_url(url, settings.namespace), ANSWER_S)
    try:
        cursor = await connection.execute(
            "SELECT xact_commit, xact_rollback, blks_hit, blks_read, deadlocks, pg_database_size(datname) "
            "FROM pg_stat_database WHERE datname = current_database()")
        row = await cursor.fetchone()
        assert row is not None
        states = await connection.execute(
            "SELECT coalesce(state, 'none'), count(*), coalesce(max(extract(epoch FROM now() - xact_start)), 0)::float "
            "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1")
        sessions = await states.fetchall()
        role = await (await connection.execute("SELECT NOT pg_is_in_recovery()")).fetchone()
        standbys = await (await connection.execute(STANDBYS)).fetchall() if role and role[0] else []
    finally:
        await connection.close()
    node_label = {"node": node}
    return [
        Sample("tweetlab_postgres_transactions_total", row[0], {**node_label, "result": "commit"}),
        Sample("tweetlab_postgres_transactions_total", row[1], {**node_label, "result": "rollback"}),
        Sample("tweetlab_postgres_blocks_total", row[2], {**node_label, "source": "cache"}),
        Sample("tweetlab_postgres_blocks_total", row[3], {**node_label, "source": "disk"}),
        Sample("tweetlab_postgres_deadlocks_total", row[4], node_label),
        Sample("tweetlab_postgres_size_bytes", row[5], node_label),
        Sample("tweetlab_postgres_longest_transaction_seconds", max((age for _, _, age in sessions), default=0.0), node_label),
        *(Sample("tweetlab_postgres_connections", count, {**node_label, "state": state}) for state, count, _ in sessions),
        Sample("tweetlab_store_primary", float(bool(role and role[0])), {"store": "postgres", **node_label}),
        *(Sample(name, float(value), {"store": "postgres", "node": member})
          for member, *lags in standbys for name, value in zip(("tweetlab_copy_lag_bytes", "tweetlab_copy_lag_seconds"), lags)),
    ]


class Cassandra:
    """Reads the virtual tables of system_views, over one session."""

    def __init__(self) -> None:
        self._bridge: Bridge | None = None

    async def __call__(self, settings: Settings, address: str, node: str) -> list[Sample]:
        from system.stores.cassandra.driver import Bridge

        if self._bridge is None:
            self._bridge = await Bridge.open([address], consistency="ONE", deadline_s=ANSWER_S, alone=True)
        node_label, own_keyspace = {"node": node}, settings.namespace
        samples = [Sample("tweetlab_cassandra_clients", len(await self._rows("address", "clients")), node_label)]
        for name, *counts in await self._rows("name, active_tasks, pending_tasks, blocked_tasks", "thread_pools"):
            samples += [Sample("tweetlab_cassandra_tasks", float(n), {**node_label, "pool": name, "state": state})
                        for state, n in zip(("active", "pending", "blocked"), counts) if name in CASSANDRA_POOLS]
        disk_usage = await self._rows("keyspace_name, table_name, mebibytes", "disk_usage")
        samples += [Sample("tweetlab_cassandra_disk_bytes", float(mebibytes) * 2**20, {**node_label, "table": table})
                    for keyspace, table, mebibytes in disk_usage
                    if keyspace == own_keyspace]
        for kind in ("read", "write", "scan"):
            rows = await self._rows("keyspace_name, table_name, count, p99th_ms", f"coordinator_{kind}_latency")
            for keyspace, table, count, p99_ms in rows:
                if keyspace == own_keyspace:
                    labels = {**node_label, "table": table, "operation": kind}
                    samples.append(Sample("tweetlab_cassandra_operations_total", float(count or 0), labels))
                    samples.append(Sample("tweetlab_cassandra_p99_seconds", float(p99_ms or 0) / 1e3, labels))
        return samples

    async def close(self) -> None:
        """Close the session."""
        if self._bridge is not None:
            await self._bridge.close()

    async def _rows(self, columns: str, table: str) -> list[tuple[Any, ...]]:
        assert self._bridge is not None
        return await self._bridge.run(f"SELECT {columns} FROM system_views.{table}", (), "read its own metrics")


async def elasticsearch(settings: Settings, address: str, node: str) -> list[Sample]:
    """Read _nodes/_local/stats."""
    import aiohttp

    url = f"http://{address}/_nodes/_local/stats/{ES_PARTS}?filter_path={ES_FIELDS}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as web, web.get(url) as response:
        response.raise_for_status()
        (node_stats,) = (await response.json())["nodes"].values()
    indices, node_label = node_stats["indices"], {"node": node}
    gc_ms = sum(collector["collection_time_in_millis"] for collector in node_stats["jvm"]["gc"]["collectors"].values())
    samples = [
        Sample("tweetlab_elasticsearch_heap_bytes", node_stats["jvm"]["mem"]["heap_used_in_bytes"], node_label),
        Sample("tweetlab_elasticsearch_documents", indices["docs"]["count"], node_label),
        Sample("tweetlab_elasticsearch_gc_seconds_total", gc_ms / 1e3, node_label),
    ]
    for operation, (block, count, millis) in ES_OPERATIONS.items():
        labels = {**node_label, "operation": operation}
        samples.append(Sample("tweetlab_elasticsearch_operations_total", indices[block][count], labels))
        samples.append(Sample("tweetlab_elasticsearch_seconds_total", indices[block][millis] / 1e3, labels))
    cluster = await copies.elastic_health(address)
    samples.append(Sample("tweetlab_copies_missing", cluster["unassigned_shards"], {**node_label, "store": "elasticsearch"}))
    pools = node_stats["thread_pool"]
    return samples + [Sample("tweetlab_elasticsearch_rejected_total", pools[pool]["rejected"], {**node_label, "pool": pool})
                      for pool in ES_POOLS if pool in pools]


async def nginx(settings: Settings, address: str, node: str) -> list[Sample]:
    """Read nginx_status of the edge cache."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as web, web.get(f"http://{address}/nginx_status") as response:
        response.raise_for_status()
        words = (await response.text()).split()
    node_label = {"node": node}
    states = {name: float(words[words.index(word) + 1]) for name, word in (
        ("active", "connections:"), ("reading", "Reading:"), ("writing", "Writing:"), ("waiting", "Waiting:"))}
    return [Sample("tweetlab_nginx_requests_total", float(words[words.index("requests") + 3]), node_label),
            *(Sample("tweetlab_nginx_connections", value, {**node_label, "state": name}) for name, value in states.items())]


def lags_of(committed: Mapping[Any, int], begins: Mapping[Any, int], ends: Mapping[Any, int],
            expected: Collection[str]) -> dict[str, int]:
    """Return topic -> lag of a group: the number of records that it has not committed.

    `committed`, `begins`, `ends`: offsets by partition. The topics are the `expected` ones and those with a
    committed offset. A partition without a committed offset (absent, or -1) counts from its beginning, where
    the group will start.
    """
    topics = {partition.topic for partition, offset in committed.items() if offset >= 0}.union(expected)
    lags: dict[str, int] = {}
    for partition, end in ends.items():
        if partition.topic in topics:
            start = max(committed.get(partition, -1), begins[partition])
            lags[partition.topic] = lags.get(partition.topic, 0) + max(0, end - start)
    return lags


def owns(settings: Settings, name: str) -> bool:
    """Return whether a topic or a consumer group belongs to the namespace of `settings`.

    One broker can have hundreds of each, of other namespaces; asking for all of them takes longer than ANSWER_S.
    """
    prefix = settings.topic("")
    return name.startswith(prefix) if prefix else "." not in name.removesuffix(events.DEAD)


class Kafka:
    """Reads the end offsets of every topic of the namespace, and the lag of each of its consumer groups."""

    def __init__(self) -> None:
        self._control: Any = None
        self._consumer: Any = None

    async def __call__(self, settings: Settings, address: str, node: str) -> list[Sample]:
        from aiokafka import TopicPartition

        if self._consumer is None:
            await self._open(address)
        if not await self._is_reporter(address):
            return []
        names = [name for name in await self._control.list_topics() if not name.startswith("__") and owns(settings, name)]
        partitions = [TopicPartition(topic["topic"], part["partition"])
                      for topic in await self._control.describe_topics(names) for part in topic["partitions"]]
        begins = await self._consumer.beginning_offsets(partitions)
        ends = await self._consumer.end_offsets(partitions)
        records: dict[str, int] = {}
        for partition, end in ends.items():
            records[partition.topic] = records.get(partition.topic, 0) + end
        samples = [Sample("tweetlab_kafka_records_total", end, {"topic": topic}) for topic, end in records.items()]
        expected = {settings.topic(group): {settings.topic(name) for name in topics} for group, topics in GROUPS.items()}
        listed = [group for group, *_ in await self._control.list_consumer_groups() if owns(settings, group)]
        for group in dict.fromkeys([*listed, *expected]):
            offsets = await self._control.list_consumer_group_offsets(group)
            committed = {partition: position.offset for partition, position in offsets.items()}
            lags = lags_of(committed, begins, ends, expected.get(group, ()))
            samples += [Sample("tweetlab_group_lag_records", lag, {"group": group, "topic": topic})
                        for topic, lag in lags.items()]
        short = copies.short_of(await copies.kafka_partitions(self._control))
        return [*samples, Sample("tweetlab_copies_missing", short, {"store": "kafka", "node": node})]

    async def _is_reporter(self, address: str) -> bool:
        """Return whether this live broker has the lowest id: that one reports for the cluster."""
        brokers = (await self._control.describe_cluster())["brokers"]
        first = min(brokers, key=lambda broker: int(broker["node_id"]))
        return f"{first['host']}:{first['port']}" == address

    async def close(self) -> None:
        """Close both clients."""
        if self._consumer is not None:
            await asyncio.gather(self._consumer.stop(), self._control.close())

    async def _open(self, address: str) -> None:
        from aiokafka import AIOKafkaConsumer, admin

        from system.stores.kafka import link

        control = admin.AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=int(ANSWER_S * 1e3))
        await link.start_client(control, "connect")
        self._control, consumer = control, AIOKafkaConsumer(bootstrap_servers=address)
        await link.start_client(consumer, "connect")
        self._consumer = consumer


async def links(settings: Settings, address: str, node: str) -> list[Sample]:
    """Read the state of each link from the WAN emulator. `address`: path of its Unix socket."""
    samples = []
    for row in await wan_emulator.request_at(Path(address), {"op": "look"}):
        labels = {"source": wan.NAMES[row["from"]], "target": wan.NAMES[row["to"]]}
        samples += [
            Sample("tweetlab_wan_packets_total", row["packets"], {**labels, "fate": "carried"}),
            Sample("tweetlab_wan_packets_total", row["lost"], {**labels, "fate": "lost"}),
            Sample("tweetlab_wan_bytes_total", row["bytes"], labels),
            Sample("tweetlab_wan_delay_seconds", row["delay_s"], labels),
            Sample("tweetlab_wan_cut", float(row["cut"]), labels),
        ]
    return samples + await _active()


async def _active() -> list[Sample]:
    members = zones()
    primary = await asyncio.to_thread(sentinels.elected_primary, [address for kind, address, *_ in members if kind == "sentinel"])
    return [Sample("tweetlab_region_active", float(address == primary), {"region": wan.NAMES[zone]})
            for kind, address, _, zone in members if kind == "redis"]


READERS: dict[str, Callable[[], Reader]] = {  # store -> creates its reader
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
    "wan": lambda: links,
}


def zones(env: Mapping[str, str] | None = None) -> list[tuple[str, str, str, int]]:
    """Return (kind, address, node, zone) of each node in TWEETLAB_MEMBERS; empty for a lab without zones.

    `env`: None is the environment of this process.
    """
    rows = numbers.parse_json((os.environ if env is None else env).get("TWEETLAB_MEMBERS") or "[]")
    return [(str(kind), str(address), str(node), int(zone)) for kind, address, node, zone in rows]


def addresses(settings: Settings) -> Sequence[tuple[str, str, str]]:
    """Return (store, address, node) of every node of every store, with node names as in blueprints.

    They are taken from the settings or, in a lab with zones, from TWEETLAB_MEMBERS, which also names members
    that the settings of a service do not contain.
    """
    if members := zones():
        return [(kind, address, node) for kind, address, node, _ in members if kind in READERS]
    stores, group = settings.stores, group_of(settings.stores.redis)
    caches = group.servers if group else (stores.redis,)
    rows: list[tuple[str, str, str]] = []
    for store, hosts in (("cassandra", stores.cassandra), ("kafka", stores.kafka[:1]), ("redis", caches),
                         ("limits", (stores.limits,)),
                         ("postgres", stores.postgres_url.rpartition("@")[2].partition("/")[0].split(",")),
                         ("nginx", (settings.cdn.rpartition("/")[2],)),
                         ("elasticsearch", tuple(url.removeprefix("http://") for url in stores.elasticsearch_urls))):
        rows += [(store, address, f"{NODES.get(store, store)}-{n}") for n, address in enumerate(hosts, 1)]
    return rows
