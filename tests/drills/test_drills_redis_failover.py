"""The cache loses its primary, on real servers: which server takes over, when, and that stale lists never
count as complete.

Points 3, 6 and 19. A lab of its own with only the two Redis and the three sentinels of `cluster`.
"""

import asyncio
import contextlib
import dataclasses
import os
import signal
import time

import pytest
from redis import asyncio as redis

from chaos.faults import table
from system.kernel import policies, settings
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.platform import blueprint, health, native
from system.platform.install import packages
from system.platform.servers import sentinel
from system.ports import Entry, Kind, Ports
from system.stores.redis.link import Link
from system.stores.redis.timelines import RedisTimelines
from system.stores.redis.tweets import RedisTweets
from tests.helpers.requirements import requires
from tweetlab.lab import session
from tweetlab.terminal import Screen

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.real,
    pytest.mark.slow,
    requires(packages.REDIS, packages.SENTINEL),
]
RANGE = 218
CLUSTER = blueprint.load("cluster")
PAUSE_S = 6.0  # less than the cluster's 12, which covers a repeated election: it keeps the drills short
CACHE = blueprint.Blueprint("cache", (
    *(dataclasses.replace(node, running=blueprint.Running(heal_pause_s=PAUSE_S)) for node in CLUSTER.of_kind("redis")),
    *CLUSTER.of_kind("sentinel"),
))
OLD, NEW, LATE = Entry(5 << 22, 1), Entry(6 << 22, 1), Entry(7 << 22, 1)
KEY = "h:7"


@pytest.fixture
async def lab(tmp_path):
    native_lab = native.Lab(tmp_path, RANGE)
    await native_lab.up(CACHE, stores_only=True)
    yield native_lab
    await native_lab.down(purge=True)


def config(address):
    defaults = settings.from_env({})
    knobs = policies.Policies(timeout=policies.TimeoutKnobs(redis_s=1.0), breaker=policies.BreakerKnobs(failures=0))
    return dataclasses.replace(defaults, policies=knobs, stores=dataclasses.replace(defaults.stores, redis=address))


@pytest.fixture
async def cache(lab):
    store = await RedisTimelines.open(config(lab.stores(CACHE)["redis"]))
    yield store
    await store.close()


async def node(lab, name):
    return next(row for row in await lab.status() if row.name == name)


async def primary(lab):
    named = await asyncio.to_thread(sentinel.elected_primary, sentinels(lab))
    return next(row for row in await lab.status() if row.address == named)


def sentinels(lab):
    return [lab.plan.of("sentinel", number) for number in (1, 2, 3)]


@contextlib.asynccontextmanager
async def connection_to(row):
    """Open a client of one server, whatever its role."""
    host, _, port = row.address.rpartition(":")
    async with redis.Redis(host=host, port=int(port), socket_timeout=2) as client:
        yield client


async def until(condition, within_s):
    """Wait until `condition()` is true and return the seconds it took."""
    began_s = time.monotonic()
    while not await condition():
        assert time.monotonic() < began_s + within_s, f"the condition was not met within {within_s} s"
        await asyncio.sleep(0.05)
    return time.monotonic() - began_s


async def serves(store):
    try:
        await store.page(Kind.HOME, 7, None, 10)
    except StoreUnavailable:
        return False
    return True


async def follows(lab, name, other):
    """Return whether the Redis `name` is an up-to-date replica of `other`."""
    with contextlib.suppress(redis.RedisError):
        async with connection_to(await node(lab, name)) as client:
            info = await client.info("replication")
            master = f"{info.get('master_host')}:{info.get('master_port')}"
            return info["role"] == "slave" and info["master_link_status"] == "up" and master == (await node(lab, other)).address
    return False


async def built(store, *entries):
    """Store the timeline of user 7 as a rebuild does."""
    token = await store.begin(Kind.HOME, 7)
    assert token and await store.complete(Kind.HOME, 7, token, entries, 0)


async def replicated(row):
    """Wait until the replica of this primary has all writes."""
    async with connection_to(row) as client:
        assert await client.wait(1, 2000) == 1


async def timeline(store):
    page = await store.page(Kind.HOME, 7, None, 10)
    return page and [entry.id for entry in page.entries]


async def test_after_the_primary_is_killed_its_replica_serves_and_it_rejoins_as_replica(lab, cache):
    """The adapter recovers without a restart.

    The old primary restarts only after its pause and wipes nothing.
    """
    await built(cache, OLD)
    killed_s = time.monotonic()
    await lab.kill("redis-1")
    took_s = await until(lambda: serves(cache), within_s=15)
    absent = await timeline(cache)
    await built(cache, NEW)
    target = await table.FAULTS["cache_loss"].choose_target(lab, "redis")
    no_ports = Ports(**dict.fromkeys(Ports.__annotations__))
    client = session.Session(lab, config(lab.stores(CACHE)["redis"]), no_ports, Screen(), "", False).redis()
    keys = await client.dbsize()
    await client.aclose()
    await until(lambda: follows(lab, "redis-1", "redis-2"), within_s=30)
    rejoined_s = time.monotonic() - killed_s

    assert took_s < 10  # 3 to 5 s on an idle machine
    assert absent is None
    assert (target.node, keys) == ("redis-2", 1)
    assert await timeline(cache) == [NEW.id]
    assert rejoined_s >= PAUSE_S
    async with connection_to(await node(lab, "redis-1")) as client:
        assert await client.get(KEY) == await _raw(lab, "redis-2")
    assert {row.health for row in await lab.status()} == {"healthy"}


async def test_the_two_sentinels_that_survive_a_zone_loss_agree(lab, cache):
    """The primary dies together with the sentinel of its zone; neither is restarted in the meantime."""
    for name in ("sentinel-1", "redis-1"):
        await lab.auto_heal(name, False)
    for name in ("sentinel-1", "redis-1"):
        await lab.kill(name)
    took_s = await until(lambda: serves(cache), within_s=20)
    for name in ("sentinel-1", "redis-1"):
        await lab.auto_heal(name, True)
    await until(lambda: follows(lab, "redis-1", "redis-2"), within_s=30)

    assert took_s < 15  # 3 to 5 s; a split election of two is repeated after 6 s
    assert (await primary(lab)).name == "redis-2"


async def _raw(lab, name):
    async with connection_to(await node(lab, name)) as client:
        return await client.get(KEY)


async def test_lists_and_tweets_that_miss_the_last_writes_count_as_absent(lab, cache):
    """Point 6.

    The replica lacks a push and a deletion when it is promoted: a list is rejected by its mark, and data
    without marks is flushed before it is read.
    """
    old_primary = await node(lab, "redis-1")
    hot = RedisTweets(cache.link, config(old_primary.address))
    await built(cache, OLD)
    await hot.fill([Tweet(OLD.id, 1, "soon deleted", 1, OLD.id)])
    await replicated(old_primary)
    replica = await node(lab, "redis-2")
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        async with connection_to(old_primary) as client:
            await client.client_kill_filter(_type="replica")
        assert (await cache.push(NEW, [7]))[0] == 1
        await hot.mark_deleted(OLD.id)
        await lab.kill("redis-1")
    finally:
        os.kill(replica.pid, signal.SIGCONT)

    async def promoted():
        async with connection_to(replica) as client:
            return (await client.role())[0] == b"master"

    await until(promoted, within_s=15)
    async with connection_to(replica) as client:
        stale_list, deleted_tweet = await client.get(KEY), await client.get(f"t:{OLD.id}")
    # A link without sentinels, which flushes nothing: only the mark can reject the list.
    bare = RedisTimelines(await Link.open(config(replica.address)), config(replica.address))
    by_mark = await timeline(bare)
    await bare.close()
    await until(lambda: serves(cache), within_s=15)

    assert stale_list is not None and NEW.id.to_bytes(8) not in stale_list  # the acknowledged push is missing
    assert deleted_tweet is not None and b"soon deleted" in deleted_tweet
    assert by_mark is None
    assert await timeline(cache) is None
    assert await hot.get([OLD.id]) == {}


async def test_answers_of_a_resumed_old_primary_do_not_count(lab, cache):
    """An idle connection to it did not notice the failover.

    It still answers as primary; the adapter must reject that.
    """
    idle = await RedisTimelines.open(config(lab.stores(CACHE)["redis"]))
    old_primary = await node(lab, "redis-1")
    await built(cache, OLD)
    assert await timeline(idle) == [OLD.id]
    os.kill(old_primary.pid, signal.SIGSTOP)
    try:
        frozen_s = await until(lambda: serves(cache), within_s=20)
        await built(cache, OLD)
    finally:
        os.kill(old_primary.pid, signal.SIGCONT)
    async with connection_to(old_primary) as client:
        as_primary = (await client.role())[0], await client.get(KEY) is not None
    with pytest.raises(StoreUnavailable) as refused:
        await idle.push(LATE, [7])  # the old primary accepts it, but its reply does not count
    pushed = await _pushed(idle)
    entries = await timeline(cache)
    demoted_s = await until(lambda: follows(lab, "redis-1", "redis-2"), within_s=40)
    await idle.close()

    print(f"serves {frozen_s:.1f} s after the freeze, demoted {demoted_s:.1f} s after it resumed")
    assert as_primary == (b"master", True)
    assert not refused.value.definite
    assert pushed == 1 and entries == [LATE.id, OLD.id]
    assert await timeline(cache) == [LATE.id, OLD.id]


async def _pushed(store):
    while True:
        with contextlib.suppress(StoreUnavailable):
            return (await store.push(LATE, [7]))[0]
        await asyncio.sleep(0.1)


async def failover_started(lab):
    """Request a failover from a sentinel; it refuses while it knows no suitable replica."""
    try:
        return await asyncio.to_thread(sentinel.command, sentinels(lab)[0], "SENTINEL", "FAILOVER", sentinel.GROUP) == "OK"
    except health.Unhealthy:
        return False


async def test_a_server_that_becomes_primary_again_has_another_epoch(lab, cache):
    """The process keeps running, so its run id stays.

    Lists from its first time as primary do not count as complete.
    """
    epochs = [await cache.epoch()]
    run_id = await run_id_of(lab, "redis-1")
    await built(cache, OLD)
    await until(lambda: failover_started(lab), within_s=15)
    await until(lambda: follows(lab, "redis-1", "redis-2"), within_s=30)
    await until(lambda: serves(cache), within_s=15)
    epochs.append(await cache.epoch())
    await lab.kill("redis-2")
    await until(lambda: serves(cache), within_s=20)
    epochs.append(await cache.epoch())

    assert await run_id_of(lab, "redis-1") == run_id
    assert len(set(epochs)) == 3
    assert await timeline(cache) is None


async def run_id_of(lab, name):
    async with connection_to(await node(lab, name)) as client:
        return (await client.info("server"))["run_id"]


async def test_a_sentinel_restarted_after_a_failover_still_knows_the_primary(lab, cache):
    """Its file holds its state: it is not written again when the sentinel restarts."""
    await lab.kill("redis-1")
    await until(lambda: serves(cache), within_s=15)
    dead = await lab.kill("sentinel-3")

    async def restarted():
        row = await node(lab, "sentinel-3")
        return row.pid != dead.pid and row.health == "healthy"

    await until(restarted, within_s=10)
    host, port = await asyncio.to_thread(
        sentinel.command, sentinels(lab)[2], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinel.GROUP)

    assert f"{host}:{port}" == (await node(lab, "redis-2")).address
    assert await serves(cache)


async def test_a_killed_replica_interrupts_no_reads(lab, cache):
    """The primary keeps serving; the replica restarts and has the same data."""
    await built(cache, OLD)
    await lab.kill("redis-2")
    assert await timeline(cache) == [OLD.id]
    await until(lambda: follows(lab, "redis-2", "redis-1"), within_s=30)

    assert await _raw(lab, "redis-2") == await _raw(lab, "redis-1")
    assert await timeline(cache) == [OLD.id]
    assert (await primary(lab)).name == "redis-1"
