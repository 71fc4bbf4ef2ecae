"""How many copies a store has of its data, and how far they lag: what its members say. `missing` sums it up for a drill.

Redis and Patroni tell it of each replica, Kafka of each partition, Elasticsearch of all shards, MinIO whether it could spare a
node (its drives, not whether each object of an outage is whole again); Cassandra is made to show it by a read that every replica
must answer.
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
ON_ALL = "SELECT * FROM system_distributed.view_build_status LIMIT 1"  # a small table that has three replicas

Rows = Sequence[NodeStatus]


@asynccontextmanager
async def _talk(address: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def redis_info(address: str) -> dict[str, str]:
    """Return INFO of a Redis or a Sentinel, read without a driver."""
    async with _talk(address) as (reader, writer):
        writer.write(b"*1\r\n$4\r\nINFO\r\n")
        head = await reader.readline()
        text = (await reader.readexactly(int(head[1:]))).decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def redis_replicas(info: dict[str, str]) -> list[dict[str, str]]:
    """Return what a primary says of its replicas: ip, port, state, offset (bytes of its stream), lag (seconds)."""
    return [dict(part.split("=", 1) for part in value.split(",")) for name, value in info.items()
            if name.startswith("slave") and name[5:].isdigit()]


async def elastic_health(address: str) -> dict[str, Any]:
    """Return _cluster/health as this node knows it, which it tells without a master too."""
    return await get_json(f"http://{address}/_cluster/health?local=true")


async def get_json(url: str) -> dict[str, Any]:
    """GET plain JSON. Raises what aiohttp raises."""
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as web, web.get(url) as answer:
        answer.raise_for_status()
        return dict(await answer.json())


async def kafka_partitions(control: AIOKafkaAdminClient) -> list[dict[str, Any]]:
    """Return every partition, internal topics included, with its `replicas` and those in sync (`isr`)."""
    topics = await control.describe_topics(await control.list_topics())
    return [part for each in topics for part in each["partitions"]]


def short_of(partitions: Sequence[dict[str, Any]]) -> int:
    """Return how many partitions have fewer copies in sync than they should have."""
    return sum(len(part["isr"]) < len(part["replicas"]) for part in partitions)


async def primaries(rows: Rows) -> list[str]:
    """Return the nodes that take the writes of a store with followers, the cache's first. One that does not answer is none."""
    found = []
    for row in sorted(rows, key=lambda each: each.kind != "redis"):
        with contextlib.suppress(OSError, EOFError, KeyError, ValueError, health.Unhealthy):
            if row.kind == "redis":
                found += [row.name] * ((await redis_info(row.address))["role"] == "master")
            elif row.kind == "postgres":
                answer = await health.postgres_execute(row.address, ROLE, "postgres", health.IS_PRIMARY)
                found += [row.name] * (answer == "SELECT 1")
    return found


async def missing(rows: Rows) -> list[str]:
    """Return what is short of a copy in the lab of these nodes, in words; empty where all stores have caught up.

    The cheap questions come first, and the next is asked only where the one before found nothing.
    """
    asked = (("redis", _redis), ("minio", _minio), ("elasticsearch", _elastic), ("kafka", _kafka), ("cassandra", _cassandra))
    for kind, ask in asked:
        addresses = [row.address for row in rows if row.kind == kind]
        if len(addresses) > 1:
            try:
                async with asyncio.timeout(2 * ANSWER_S):
                    found = await ask(addresses)
            except Exception as problem:  # whatever its driver raises: it has not caught up
                found = f"{kind} does not tell: {type(problem).__name__}: {str(problem)[:200]}"
            if found:
                return [found]
    return []


async def _redis(addresses: list[str]) -> str:
    told = [await redis_info(address) for address in addresses]
    primaries = [each for each in told if each["role"] == "master"]
    if len(primaries) != 1:
        return f"{len(primaries)} of {len(told)} Redis members are primary"
    online = [each for each in redis_replicas(primaries[0]) if each["state"] == "online"]
    return "" if len(online) == len(told) - 1 else f"the Redis primary has {len(online)} of {len(told) - 1} replicas"


async def _minio(addresses: list[str]) -> str:
    try:
        await health.http(addresses[0], "/minio/health/cluster?maintenance=true")  # well as if this node were away
    except health.Unhealthy as problem:
        return f"MinIO has drives offline: {problem}"
    return ""


async def _elastic(addresses: list[str]) -> str:
    told = await elastic_health(addresses[0])
    whole = told["status"] == "green" and told["number_of_nodes"] == len(addresses)
    return "" if whole else f"Elasticsearch is {told['status']} with {told['number_of_nodes']} of {len(addresses)} nodes"


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

    for address in addresses:  # each as the coordinator: it must know that all three are up
        bridge = await Bridge.open([address], consistency="ALL", deadline_s=ANSWER_S, alone=True)
        try:
            await bridge.run(ON_ALL, (), "read from all replicas")
        except LabError as problem:
            return f"Cassandra at {address}: {problem.detail}"
        finally:
            await bridge.close()
    return ""
