"""Cassandra, Kafka, Elasticsearch and MinIO in three zones: where the replicas are, and what the loss of one
member costs.

A member is killed with its automatic restart off. Everything acknowledged, before or during its outage, is
read back.
"""

import asyncio
import contextlib
import json
import time
import uuid
from dataclasses import replace

import aiohttp
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from system.kernel import events, settings
from system.kernel.errors import CouldNotRun, NotFound, StoreUnavailable
from system.platform import blueprint
from system.platform.servers import services
from system.stores.cassandra.driver import Bridge
from system.stores.s3.blobs import MinioBlobs
from tweetlab.lab import session
from tweetlab.run import smoke

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(280)]
CLUSTER = blueprint.load("cluster")
AWAY_S = 5.0  # posts are sent for so long after the kill
HOLDS_WITHIN_S = 30.0  # after that; the slowest is a dead broker, whose groups and partitions move within about 10 s
PICTURE = b"a parrot" * 40_000  # 320 kB: sharded, too large to be stored inline with its metadata


def config(lab, zone=0):
    stores = services.stores(CLUSTER, lab.plan, zone)
    return settings.from_env({"TWEETLAB_RANGE": str(lab.plan.range), "TWEETLAB_STORES": json.dumps(stores)})


async def answer(url):
    async with aiohttp.ClientSession() as web, web.get(url) as reply:
        return await reply.json(content_type=None)


async def shards(lab):
    """Return the shards of the index of tweets: (primary or replica, state, node)."""
    url = f"{config(lab).stores.elasticsearch_urls[-1]}/_cat/shards/tweetlab-tweets-v*?format=json"
    return sorted((row["prirep"], row["state"], row["node"]) for row in await answer(url))


async def until(condition, within_s):
    began_s = time.monotonic()
    while not (result := await condition()):
        assert time.monotonic() < began_s + within_s, f"the condition was not met within {within_s} s"
        await asyncio.sleep(0.2)
    return result


async def is_healthy(lab, name):
    return next(row.health for row in await lab.status() if row.name == name) == "healthy"


async def storage_is_redundant(lab):
    """Return whether every storage node sees enough drives for its own loss."""
    async with aiohttp.ClientSession() as web:
        for address in (lab.plan.of("minio", zone) for zone in (1, 2, 3)):
            async with web.get(f"http://{address}/minio/health/cluster?maintenance=true") as reply:
                if reply.status != 200:
                    return False
    return True


async def is_stored(store, key):
    """Return whether the picture is read.

    A restarted node returns 404 for seconds for what was written without it.
    """
    with contextlib.suppress(NotFound):
        return await store.get(key) == PICTURE
    return False


async def dropped(store):
    """Return whether the bucket was dropped. A restarted node refuses writes for seconds."""
    with contextlib.suppress(StoreUnavailable):
        await store.drop()
        return True
    return False


@contextlib.asynccontextmanager
async def without(lab, name):
    """Kill the member for the block; afterwards restart it and wait until it is healthy."""
    await until(lambda: storage_is_redundant(lab), 60.0)  # a restarted node needs seconds, else two would be down
    await lab.auto_heal(name, False)
    await lab.kill(name)
    try:
        yield
        assert not await is_healthy(lab, name)
    finally:
        await lab.auto_heal(name, True)
        await until(lambda: is_healthy(lab, name), 120.0)


@contextlib.asynccontextmanager
async def authors(lab):
    """One user, signed in, as an API client of each of the two load balancers."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as web:
        clients = [smoke.Api(web, session.public_url(lab, zone)) for zone in (1, 2)]
        name = f"polly{uuid.uuid4().hex[:10]}"
        await clients[0].call("POST", "/2/users", json={"username": name, "name": "Polly", "password": "pieces of eight"})
        form = {"grant_type": "password", "username": name, "password": "pieces of eight"}
        token = (await clients[0].call("POST", "/2/oauth2/token", data=form))["access_token"]
        yield [client.as_user(token) for client in clients]


async def posted(clients, for_s):
    """Post with both clients in turn for so long.

    Return the acknowledged ids and how many posts were not acknowledged.
    """
    acknowledged, refused, ends_s = [], 0, time.monotonic() + for_s
    while time.monotonic() < ends_s:
        for client in clients:
            try:
                created = await client.call("POST", "/2/tweets", json={"text": f"squawk {uuid.uuid4().hex}"})
                acknowledged.append(created["data"]["id"])
            except CouldNotRun:
                refused += 1
        await asyncio.sleep(0.05)
    return acknowledged, refused


async def journey_succeeds(lab):
    journeys = await asyncio.gather(*(smoke.journey(session.public_url(lab, zone)) for zone in (1, 2)))
    return all(step.ok for steps in journeys for step in steps)


async def victim(lab, kind):
    """Return the member whose loss affects most: of Elasticsearch the one with the primary shard."""
    if kind == "elasticsearch":
        return next(node for role, _, node in await shards(lab) if role == "p")
    return f"{kind}-1"


@pytest.mark.parametrize("kind", ["cassandra", "kafka", pytest.param("elasticsearch", marks=pytest.mark.campaign),
                                  pytest.param("minio", marks=pytest.mark.campaign)])
async def test_the_loss_of_any_one_member_loses_nothing_acknowledged(cluster, kind):
    """Tweets from before and during the outage are read through both load balancers; the journey passes."""
    name = await victim(cluster, kind)
    async with authors(cluster) as clients:
        before, _ = await posted(clients, 1.0)
        async with without(cluster, name):
            during, refused = await posted(clients, AWAY_S)
            began_s = time.monotonic()
            await until(lambda: journey_succeeds(cluster), HOLDS_WITHIN_S)
            took_s = time.monotonic() - began_s
            read = [await client.call("GET", f"/2/tweets/{tweet}") for client in clients for tweet in (*before, *during)]
    print(f"{name}: {len(during)} posts acknowledged in {AWAY_S:.0f} s, {refused} not; smoke journey passed after {took_s:.1f} s")

    assert [each["data"]["id"] for each in read] == [*before, *during] * 2
    assert len(before) >= 2 and len(during) >= 10


async def test_every_topic_has_a_copy_in_each_zone_and_two_must_hold_a_record(cluster):
    """Three replicas, min.insync 2: the loss of one zone stops no producer.

    With two lost, writes are refused.
    """
    control = AIOKafkaAdminClient(bootstrap_servers=config(cluster).stores.kafka)
    await control.start()
    try:
        names = [name for name in await control.list_topics() if not name.startswith("__")]
        topics = await control.describe_topics(names)
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await control.describe_configs(resources)
        brokers = (await control.describe_cluster())["brokers"]
    finally:
        await control.close()

    assert set(names) >= set(events.TOPICS)
    assert {broker["node_id"]: broker["rack"] for broker in brokers} == {1: "zone-1", 2: "zone-2", 3: "zone-3"}
    assert {tuple(sorted(part["replicas"])) for topic in topics for part in topic["partitions"]} == {(1, 2, 3)}
    configs = [{entry[0]: entry[1] for entry in row[4]} for each in answers for row in each.resources]
    assert [each["min.insync.replicas"] for each in configs] == ["2"] * len(names)


async def test_the_index_has_its_copy_in_the_other_zone(cluster):
    """One shard, one replica; the third zone votes and holds no data."""
    async def started():
        rows = await shards(cluster)
        return rows if all(state == "STARTED" for _, state, _ in rows) else None

    rows = await until(started, 30.0)

    assert [role for role, _, _ in rows] == ["p", "r"]
    assert {node for _, _, node in rows} == {"elasticsearch-1", "elasticsearch-2"}


async def test_a_row_has_a_copy_in_each_rack(cluster):
    """Three replicas, each node in the rack of its zone."""
    lab_config = config(cluster)
    racks = {}
    for number, address in enumerate(lab_config.stores.cassandra, 1):
        bridge = await Bridge.open([address], consistency="ONE", deadline_s=5.0, alone=True)
        try:
            racks[number] = (await bridge.run("SELECT rack FROM system.local", (), "read its rack"))[0][0]
            of_keyspace = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?"
            copies = (await bridge.run(of_keyspace, (lab_config.namespace,), "read the replication"))[0][0]
        finally:
            await bridge.close()

    assert racks == {1: "zone-1", 2: "zone-2", 3: "zone-3"}
    assert copies["datacenter1"] == "3"


async def test_an_object_is_read_and_written_with_one_storage_down(cluster):
    """With its node down, a service uses the next; within two health checks links point there too.

    It fails back later.
    """
    store = await MinioBlobs.open(replace(config(cluster, zone=1), namespace=f"t{uuid.uuid4().hex[:8]}"))
    own, spare = (cluster.plan.of("minio", zone) for zone in (1, 2))
    try:
        await store.prepare()
        await until(lambda: storage_is_redundant(cluster), 60.0)
        await store.put("media/before", PICTURE, "image/png")
        assert own in store.signed_get("media/before", 60)
        async with without(cluster, "minio-1"):
            await store.put("media/during", PICTURE, "image/png")
            assert [await store.get(key) for key in ("media/before", "media/during")] == [PICTURE, PICTURE]
            await asyncio.sleep(2.5)
            assert spare in store.signed_get("media/before", 60)
        await until(lambda: storage_is_redundant(cluster), 60.0)
        await until(lambda: asyncio.sleep(0, own in store.signed_get("media/before", 60)), 10.0)
        await until(lambda: is_stored(store, "media/during"), 60.0)
    finally:
        await until(lambda: dropped(store), 60.0)
        await store.close()
