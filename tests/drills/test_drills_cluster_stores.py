"""Cassandra, Kafka, Elasticsearch and MinIO in three zones: where the copies stand, and what the loss of any one member costs.

A member is killed with its healing off. What was acknowledged, before or while it was away, is read back meanwhile.
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
AWAY_S = 5.0  # posts are tried for so long after the kill
HOLDS_WITHIN_S = 30.0  # from then on: the slowest is a dead broker, whose groups and partitions go to others within about 10 s
PICTURE = b"a parrot" * 40_000  # 320 kB: cut into pieces, too large to lie beside its metadata


def config(lab, zone=0):
    stores = services.stores(CLUSTER, lab.plan, zone)
    return settings.from_env({"TWEETLAB_RANGE": str(lab.plan.range), "TWEETLAB_STORES": json.dumps(stores)})


async def answer(url):
    async with aiohttp.ClientSession() as web, web.get(url) as reply:
        return await reply.json(content_type=None)


async def shards(lab):
    """The shards of the index of tweets: (primary or replica, state, node)."""
    url = f"{config(lab).stores.elasticsearch_urls[-1]}/_cat/shards/tweetlab-tweets?format=json"
    return sorted((row["prirep"], row["state"], row["node"]) for row in await answer(url))


async def until(holds, within_s):
    began_s = time.monotonic()
    while not (found := await holds()):
        assert time.monotonic() < began_s + within_s, f"it did not hold within {within_s} s"
        await asyncio.sleep(0.2)
    return found


async def is_well(lab, name):
    return next(row.health for row in await lab.status() if row.name == name) == "healthy"


async def storage_is_whole(lab):
    """Every node of the storage sees so many drives that it may be lost itself."""
    async with aiohttp.ClientSession() as web:
        for address in (lab.plan.of("minio", zone) for zone in (1, 2, 3)):
            async with web.get(f"http://{address}/minio/health/cluster?maintenance=true") as reply:
                if reply.status != 200:
                    return False
    return True


async def holds(store, key):
    """A node that came back answers 404 for seconds to what was written without it, though it says that it sees enough drives."""
    with contextlib.suppress(NotFound):
        return await store.get(key) == PICTURE
    return False


async def dropped(store):
    """A node that came back refuses writes for seconds, though it says that it sees enough drives."""
    with contextlib.suppress(StoreUnavailable):
        await store.drop()
        return True
    return False


@contextlib.asynccontextmanager
async def without(lab, name):
    """The member is dead and stays so; at the end it is healed, and well."""
    await until(lambda: storage_is_whole(lab), 60.0)  # a node that came back sees the others again after seconds: two were lost
    await lab.auto_heal(name, False)
    await lab.kill(name)
    try:
        yield
        assert not await is_well(lab, name)
    finally:
        await lab.auto_heal(name, True)
        await until(lambda: is_well(lab, name), 120.0)


@contextlib.asynccontextmanager
async def authors(lab):
    """One user, signed in, at each of the two doors."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as web:
        doors = [smoke.Api(web, session.public_url(lab, zone)) for zone in (1, 2)]
        name = f"polly{uuid.uuid4().hex[:10]}"
        await doors[0].call("POST", "/2/users", json={"username": name, "name": "Polly", "password": "pieces of eight"})
        form = {"grant_type": "password", "username": name, "password": "pieces of eight"}
        token = (await doors[0].call("POST", "/2/oauth2/token", data=form))["access_token"]
        yield [door.as_user(token) for door in doors]


async def posted(doors, for_s):
    """Post at both doors in turn for so long; return the acknowledged ids and how many posts were not acknowledged."""
    acknowledged, refused, ends_s = [], 0, time.monotonic() + for_s
    while time.monotonic() < ends_s:
        for door in doors:
            try:
                made = await door.call("POST", "/2/tweets", json={"text": f"squawk {uuid.uuid4().hex}"})
                acknowledged.append(made["data"]["id"])
            except CouldNotRun:
                refused += 1
        await asyncio.sleep(0.05)
    return acknowledged, refused


async def journey_holds(lab):
    walks = await asyncio.gather(*(smoke.journey(session.public_url(lab, zone)) for zone in (1, 2)))
    return all(step.ok for steps in walks for step in steps)


async def victim(lab, kind):
    """The member whose loss takes most with it: of Elasticsearch the one with the primary shard."""
    if kind == "elasticsearch":
        return next(node for role, _, node in await shards(lab) if role == "p")
    return f"{kind}-1"


@pytest.mark.parametrize("kind", ["cassandra", "kafka", pytest.param("elasticsearch", marks=pytest.mark.campaign),
                                  pytest.param("minio", marks=pytest.mark.campaign)])
async def test_the_loss_of_any_one_member_loses_nothing_acknowledged(cluster, kind):
    """Tweets of before and of meanwhile are read at both doors, and a user's whole journey holds while the member is away."""
    name = await victim(cluster, kind)
    async with authors(cluster) as doors:
        before, _ = await posted(doors, 1.0)
        async with without(cluster, name):
            meanwhile, refused = await posted(doors, AWAY_S)
            began_s = time.monotonic()
            await until(lambda: journey_holds(cluster), HOLDS_WITHIN_S)
            took_s = time.monotonic() - began_s
            found = [await door.call("GET", f"/2/tweets/{tweet}") for door in doors for tweet in (*before, *meanwhile)]
    print(f"{name}: {len(meanwhile)} posts acknowledged in {AWAY_S:.0f} s, {refused} not; the journey held after {took_s:.1f} s")

    assert [each["data"]["id"] for each in found] == [*before, *meanwhile] * 2
    assert len(before) >= 2 and len(meanwhile) >= 10


async def test_every_topic_has_a_copy_in_each_zone_and_two_must_hold_a_record(cluster):
    """Three copies, min.insync 2: the loss of one zone stops no producer, the loss of two is refused."""
    control = AIOKafkaAdminClient(bootstrap_servers=config(cluster).stores.kafka)
    await control.start()
    try:
        names = [name for name in await control.list_topics() if not name.startswith("__")]
        told = await control.describe_topics(names)
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        answers = await control.describe_configs(asked)
        brokers = (await control.describe_cluster())["brokers"]
    finally:
        await control.close()

    assert set(names) >= set(events.TOPICS)
    assert {broker["node_id"]: broker["rack"] for broker in brokers} == {1: "zone-1", 2: "zone-2", 3: "zone-3"}
    assert {tuple(sorted(part["replicas"])) for topic in told for part in topic["partitions"]} == {(1, 2, 3)}
    settled = [{entry[0]: entry[1] for entry in row[4]} for each in answers for row in each.resources]
    assert [each["min.insync.replicas"] for each in settled] == ["2"] * len(names)


async def test_the_index_has_its_copy_in_the_other_zone(cluster):
    """One shard, one copy; the third zone votes and holds none."""
    async def stands():
        rows = await shards(cluster)
        return rows if all(state == "STARTED" for _, state, _ in rows) else None

    rows = await until(stands, 30.0)

    assert [role for role, _, _ in rows] == ["p", "r"]
    assert {node for _, _, node in rows} == {"elasticsearch-1", "elasticsearch-2"}


async def test_a_row_has_a_copy_in_each_rack(cluster):
    """Three copies, each node in the rack of its zone."""
    told = config(cluster)
    racks = {}
    for number, address in enumerate(told.stores.cassandra, 1):
        bridge = await Bridge.open([address], consistency="ONE", deadline_s=5.0, alone=True)
        try:
            racks[number] = (await bridge.run("SELECT rack FROM system.local", (), "tell its rack"))[0][0]
            of_keyspace = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?"
            copies = (await bridge.run(of_keyspace, (told.namespace,), "tell the copies"))[0][0]
        finally:
            await bridge.close()

    assert racks == {1: "zone-1", 2: "zone-2", 3: "zone-3"}
    assert copies["datacenter1"] == "3"


async def test_an_object_is_read_and_written_with_one_storage_down(cluster):
    """Its own node gone, a service turns to the next; within two looks at them, links lead there too. It turns back later."""
    store = await MinioBlobs.open(replace(config(cluster, zone=1), namespace=f"t{uuid.uuid4().hex[:8]}"))
    own, spare = (cluster.plan.of("minio", zone) for zone in (1, 2))
    try:
        await store.prepare()
        await until(lambda: storage_is_whole(cluster), 60.0)
        await store.put("media/before", PICTURE, "image/png")
        assert own in store.signed_get("media/before", 60)
        async with without(cluster, "minio-1"):
            await store.put("media/meanwhile", PICTURE, "image/png")
            assert [await store.get(key) for key in ("media/before", "media/meanwhile")] == [PICTURE, PICTURE]
            await asyncio.sleep(2.5)
            assert spare in store.signed_get("media/before", 60)
        await until(lambda: storage_is_whole(cluster), 60.0)
        await until(lambda: asyncio.sleep(0, own in store.signed_get("media/before", 60)), 10.0)
        await until(lambda: holds(store, "media/meanwhile"), 60.0)
    finally:
        await until(lambda: dropped(store), 60.0)
        await store.close()
