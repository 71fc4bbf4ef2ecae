"""Replication state of the stores, as their members report it. `missing` summarizes it for a drill.

Redis and Patroni report it per replica, Kafka per partition, Elasticsearch for all shards, MinIO whether it
tolerates the loss of a node (by its drives, not whether each object of an outage is fully healed); for
Cassandra a read that every replica must answer shows it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from system.kernel.errors import LabError
from system.platform import health
from system.platform.provider import NodeStatus
from system.platform.servers.postgres import ROLE

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient

ANSWER_S = 4.0  # longest wait for one store
ON_ALL = "SELECT * FROM system_distributed.view_build_status LIMIT 1"  # a small table with three replicas

Rows = Sequence[NodeStatus]


@asynccontextmanager
async def _connection(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def redis_info(address: str) -> dict[str, str]:
    """Return INFO of a Redis or a Sentinel, without a driver."""
    async with _connection(address) as (reader, writer):
        writer.write(b"*1\r\n$4\r\nINFO\r\n")
        head = await reader.readline()
        text = (await reader.readexactly(int(head[1:]))).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def redis_replicas(info: dict[str, str]) -> list[dict[str, str]]:
    """Return a primary's replicas: ip, port, state, offset (bytes of its stream), lag (seconds)."""
    return [dict(part.split("=", 1) for part in value.split(",")) for name, value in info.items()
            if name.startswith("slave") and name[5:].isdigit()]


async def elastic_health(address: str) -> dict[str, Any]:
    """Return _cluster/health from the local state of this node, which works without a master too."""
    return await get_json(f"http://{address}/_cluster/health?local=true")


async def get_json(url: str) -> dict[str, Any]:
    """GET a JSON object. Raises the errors of aiohttp."""
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as web, web.get(url) as response:
        response.raise_for_status()
        return dict(await response.json())


async def kafka_partitions(control: AIOKafkaAdminClient) -> list[dict[str, Any]]:
    """Return every partition, internal topics included, with its `replicas` and those in sync (`isr`)."""
    topics = await control.describe_topics(await control.list_topics())
    return [partition for topic in topics for partition in topic["partitions"]]


def short_of(partitions: Sequence[dict[str, Any]]) -> int:
    """Return the number of under-replicated partitions."""
    return sum(len(partition["isr"]) < len(partition["replicas"]) for partition in partitions)


async def primaries(rows: Rows) -> list[str]:
    """Return the primaries of Redis and PostgreSQL, Redis first.

    A node that does not answer does not count.
    """
    nodes = []
    for row in sorted(rows, key=lambda row: row.kind != "redis"):
        with contextlib.suppress(OSError, EOFError, KeyError, ValueError, health.Unhealthy):
            if row.kind == "redis":
                nodes += [row.name] * ((await redis_info(row.address))["role"] == "master")
            elif row.kind == "postgres":
                answer = await health.postgres_execute(row.address, ROLE, "postgres", health.IS_PRIMARY)
                nodes += [row.name] * (answer == "SELECT 1")
    return nodes


async def missing(rows: Rows) -> list[str]:
    """Return a description of the first store of these nodes that lacks replicas.

    Empty if all have caught up.

    Cheap checks run first, and the next one runs only if the previous one found nothing.
    """
    checks = (("redis", _redis), ("minio", _minio), ("elasticsearch", _elastic), ("kafka", _kafka), ("cassandra", _cassandra))
    for kind, check in checks:
        addresses = [row.address for row in rows if row.kind == kind]
        if len(addresses) > 1:
            try:
                async with asyncio.timeout(2 * ANSWER_S):
                    finding = await check(addresses)
            except Exception as problem:  # any error of its driver: not known to have caught up
                finding = f"{kind} does not report: {type(problem).__name__}: {str(problem)[:200]}"
            if finding:
                return [finding]
    return []


async def _redis(addresses: list[str]) -> str:
    members = [await redis_info(address) for address in addresses]
    primaries = [info for info in members if info["role"] == "master"]
    if len(primaries) != 1:
        return f"{len(primaries)} of {len(members)} Redis members are primary"
    online = [replica for replica in redis_replicas(primaries[0]) if replica["state"] == "online"]
    replicas = len(members) - 1
    return "" if len(online) == replicas else f"the Redis primary has {len(online)} of {replicas} replicas"


async def _minio(addresses: list[str]) -> str:
    try:
        await health.http(addresses[0], "/minio/health/cluster?maintenance=true")  # healthy as if this node were down
    except health.Unhealthy as problem:
        return f"MinIO has drives offline: {problem}"
    return ""


async def _elastic(addresses: list[str]) -> str:
    cluster = await elastic_health(addresses[0])
    status, nodes = cluster["status"], cluster["number_of_nodes"]
    healthy = status == "green" and nodes == len(addresses)
    return "" if healthy else f"Elasticsearch is {status} with {nodes} of {len(addresses)} nodes"


async def _kafka(addresses: list[str]) -> str:
    from aiokafka import admin

    control = admin.AIOKafkaAdminClient(bootstrap_servers=addresses, request_timeout_ms=int(ANSWER_S * 1e3))
    try:
        await control.start()
        short = short_of(await kafka_partitions(control))
    finally:
        await control.close()
    return f"{short} partitions of Kafka are under-replicated" if short else ""


async def _cassandra(addresses: list[str]) -> str:
    from system.stores.cassandra.driver import Bridge

    for address in addresses:  # each as the coordinator: it must see all three as up
        bridge = await Bridge.open([address], consistency="ALL", deadline_s=ANSWER_S, alone=True)
        try:
            await bridge.run(ON_ALL, (), "read from all replicas")
        except LabError as problem:
            return f"Cassandra at {address}: {problem.detail}"
        finally:
            await bridge.close()
    return ""
