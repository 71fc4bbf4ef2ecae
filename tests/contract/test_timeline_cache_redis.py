"""TimelineCache on the test's own Redis: restarts, lost data, and the meaning of its errors."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import os
import signal

import hiredis
import pytest
import uvloop

from system.kernel import policies
from system.kernel.errors import LabError, StoreUnavailable, WrongInput
from system.kernel.events import Tweet
from system.ports import Entry, Kind
from system.stores.redis import link as redis_link
from system.stores.redis.timelines import RedisTimelines
from system.stores.redis.tweets import RedisTweets
from tests.helpers.cached_lists import ADA, BOB, build, numbers, tweet

pytestmark = pytest.mark.real


@pytest.fixture
async def cache(own_settings):
    store = await RedisTimelines.open(own_settings)
    yield store
    await store.close()


async def until_it_answers(cache) -> None:
    for _ in range(100):
        with contextlib.suppress(StoreUnavailable):
            return await cache.ready()
        await asyncio.sleep(0.05)
    raise AssertionError("Redis did not recover within 5 s")


async def test_a_restarted_redis_is_empty_and_has_a_new_epoch(own_redis, cache) -> None:
    """Correctness point 6: no RDB, no AOF; the run id is read again on the new connection."""
    await build(cache, Kind.HOME, ADA, [tweet(1)])
    epoch = await cache.epoch()
    await own_redis.kill()
    await own_redis.start()
    await until_it_answers(cache)
    assert await cache.epoch() != epoch
    assert await cache.page(Kind.HOME, ADA, None, 10) is None
    await build(cache, Kind.HOME, ADA, [tweet(2)])
    assert numbers((await cache.page(Kind.HOME, ADA, None, 10)).entries) == [2]


async def test_lists_of_another_epoch_count_as_absent(cache) -> None:
    """Correctness point 6: a new primary's lists may lack the last pushes, so they are not used."""
    await build(cache, Kind.HOME, ADA, [tweet(1)])
    await build(cache, Kind.FOLLOWERS, ADA, [Entry(BOB, 0)])
    stale = await cache.begin(Kind.HOME, BOB)
    for key in (f"h:{ADA}", f"h:{BOB}"):
        value = await cache.link.call("GET", cache.link.prefix + key)
        await cache.link.call("SET", cache.link.prefix + key, value[:2] + b"f" * 40 + value[42:])
    key = f"{cache.link.prefix}f:{ADA}"
    mark = (await cache.link.call("ZRANGE", key, -1, -1))[0]
    await cache.link.calls([("ZREM", key, mark), ("ZADD", key, "+inf", mark[:2] + b"f" * 40 + mark[42:])])

    assert await cache.page(Kind.HOME, ADA, None, 10) is None
    assert await cache.push(tweet(2), [ADA, BOB]) == (0, 2)
    assert not await cache.back_fill(ADA, [tweet(2)])
    assert await cache.members(Kind.FOLLOWERS, ADA) is None
    assert not await cache.add_member(Kind.FOLLOWERS, ADA, 99)
    assert (await cache.push_chunk(ADA, tweet(2), 0, None)).status == "absent"
    assert not await cache.complete(Kind.HOME, BOB, stale, [], 0)
    await build(cache, Kind.HOME, ADA, [tweet(3)])
    await build(cache, Kind.FOLLOWERS, ADA, [Entry(5, 0)])
    assert numbers((await cache.page(Kind.HOME, ADA, None, 10)).entries) == [3]
    assert await cache.members(Kind.FOLLOWERS, ADA) == [5]


async def test_a_flushall_between_two_chunks_is_detected(cache) -> None:
    """Correctness point 3: the scan does not end early as if done; a rebuilt list has another token."""
    users = [Entry(user, 0) for user in range(1, 8)]
    await build(cache, Kind.FOLLOWERS, BOB, users)
    first = await cache.push_chunk(BOB, tweet(1), 0, None)
    await cache.link.call("FLUSHALL")
    assert (await cache.push_chunk(BOB, tweet(1), first.last, first.token)).status == "absent"
    await build(cache, Kind.FOLLOWERS, BOB, users)
    assert (await cache.push_chunk(BOB, tweet(1), first.last, first.token)).status == "changed"


async def test_one_follow_after_a_cache_loss_does_not_shrink_an_audience(cache) -> None:
    """An incomplete follower set is never taken for a complete one: the addition finds no list."""
    await build(cache, Kind.FOLLOWERS, BOB, [Entry(user, 0) for user in range(1, 8)])
    await cache.link.call("FLUSHALL")
    assert not await cache.add_member(Kind.FOLLOWERS, BOB, 8)
    assert await cache.members(Kind.FOLLOWERS, BOB) is None


async def test_pushes_and_pages_agree_under_many_tasks(cache, own_settings) -> None:
    """Trim, floor and cursor hold while tasks push, delete and back-fill concurrently (points 2 and 3)."""
    await build(cache, Kind.HOME, ADA, [tweet(n) for n in range(5)])
    other = await RedisTimelines.open(own_settings)
    pushed = range(10, 210)

    async def push(store, step: int) -> None:
        for number in pushed[step::4]:
            await store.push(tweet(number), [ADA])
            if number % 3 == 0:
                await store.remove_tweet(tweet(number), [ADA])
                await store.back_fill(ADA, [tweet(number % 5)])

    await asyncio.gather(*(push(cache if step % 2 else other, step) for step in range(4)))
    page = await cache.page(Kind.HOME, ADA, None, 100)
    wanted = [n for n in reversed(pushed) if n % 3 and tweet(n).id >= page.floor]
    assert numbers(page.entries) == wanted
    assert 1 <= len(page.entries) <= 7
    await other.close()


async def test_flushed_scripts_are_loaded_again(cache) -> None:
    """SCRIPT FLUSH costs one more round trip, not an error."""
    await build(cache, Kind.HOME, ADA, [tweet(1)])
    await cache.link.call("SCRIPT", "FLUSH")
    assert numbers((await cache.page(Kind.HOME, ADA, None, 10)).entries) == [1]


async def test_a_call_to_a_redis_that_is_down_fails_definitely(own_redis, cache) -> None:
    """A command that was never written to a socket fails definitely and immediately."""
    await own_redis.kill()
    await asyncio.sleep(0.05)
    with pytest.raises(StoreUnavailable, match=own_redis.address) as refused:
        await cache.push(tweet(1), [ADA])
    assert refused.value.definite


async def test_a_redis_that_stops_replying_leaves_the_outcome_unknown(own_settings, own_redis) -> None:
    """After `deadline.store_s` without a reply the connection is dropped; the command may have run."""
    knobs = dataclasses.replace(own_settings.policies, deadline=policies.DeadlineKnobs(store_s=0.3))
    cache = await RedisTimelines.open(dataclasses.replace(own_settings, policies=knobs))
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        calls = [cache.push(tweet(number), [ADA]) for number in range(3)]
        outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 2)
        assert [getattr(outcome, "definite", None) for outcome in outcomes] == [False] * 3
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    await until_it_answers(cache)
    assert await cache.push(tweet(9), [ADA]) == (0, 1)
    await cache.close()


async def test_a_redis_killed_in_mid_call_leaves_the_outcome_unknown(own_redis, cache) -> None:
    """The connection is lost after the write: the outcome is unknown."""
    os.kill(own_redis.pid, signal.SIGSTOP)
    call = asyncio.create_task(cache.push(tweet(1), [ADA]))
    await asyncio.sleep(0.05)
    await own_redis.kill()
    with pytest.raises(StoreUnavailable) as lost:
        await call
    assert not lost.value.definite


async def test_a_cancelled_call_does_not_shift_the_replies(cache) -> None:
    """Replies match commands in order, even if no task waits for one any more."""
    await build(cache, Kind.HOME, ADA, [tweet(1)])
    tasks = [asyncio.create_task(cache.link.call("ECHO", str(number))) for number in range(50)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    assert [await task for task in tasks[1::2]] == [str(number).encode() for number in range(1, 50, 2)]


async def test_a_refusal_is_definite_and_a_failed_script_is_not(cache) -> None:
    """LOADING, OOM, READONLY etc. precede any effect of a command; other errors may come after it."""
    await cache.link.call("SET", f"{cache.link.prefix}f:{BOB}", "no set")
    with pytest.raises(StoreUnavailable) as failed:
        await cache.push_chunk(BOB, tweet(1), 0, None)
    assert not failed.value.definite
    for word in redis_link.REFUSALS:
        assert redis_link.mapped(hiredis.ReplyError(f"{word} …"), sent=True, address="redis").definite
    assert not redis_link.mapped(hiredis.ReplyError("ERR user_script:1: …"), sent=True, address="redis").definite


async def test_an_invalid_argument_does_not_open_the_circuit_breaker(cache) -> None:
    """However often it is sent. If a script fails on one, its earlier effects are unknown."""
    for _ in range(20):
        with pytest.raises(WrongInput) as refused:
            await cache.link.call("SET", f"{cache.link.prefix}n", "1", "EX", str(2**70))
        assert refused.value.definite
    assert cache.link._guard.breaker.state.number == 0
    text = "ERR value is not an integer or out of range script: 77, on @user_script:3."
    ours = redis_link.mapped(hiredis.ReplyError(text), sent=True, address="redis")
    assert isinstance(ours, WrongInput) and not ours.definite


def test_every_error_of_the_driver_is_mapped() -> None:
    """Errors of hiredis and of the socket become ours, with the address and a fix."""
    kinds = [kind for _, kind in inspect.getmembers(hiredis, inspect.isclass) if issubclass(kind, BaseException)]
    assert hiredis.HiredisError in kinds and hiredis.ProtocolError in kinds
    for kind in [*kinds, OSError, ConnectionRefusedError, ConnectionResetError, BrokenPipeError, TimeoutError]:
        problem = redis_link.mapped(kind("some reason"), sent=True, address="127.1.30.1:6379")
        assert isinstance(problem, LabError) and "127.1.30.1:6379" in str(problem), kind


def test_the_link_works_on_uvloop(own_settings) -> None:
    """Services run on uvloop, tests on asyncio's own loop."""
    async def build_and_read() -> list[int]:
        cache = await RedisTimelines.open(own_settings)
        await build(cache, Kind.HOME, ADA, [tweet(1)])
        page = await cache.page(Kind.HOME, ADA, None, 10)
        await cache.close()
        return numbers(page.entries)

    assert uvloop.run(build_and_read()) == [1]


async def test_an_empty_list_of_tweets_does_not_stay_for_ever(cache) -> None:
    """Clients may request the tweets of any id: an empty list expires, a non-empty one stays."""
    await build(cache, Kind.AUTHOR, ADA, [])
    await build(cache, Kind.AUTHOR, BOB, [tweet(1)])
    ttl_ms = await cache.link.call("PTTL", f"{cache.link.prefix}a:{ADA}")

    assert 0 < ttl_ms <= 600_000
    assert await cache.link.call("PTTL", f"{cache.link.prefix}a:{BOB}") == -1
    assert (await cache.page(Kind.AUTHOR, ADA, None, 10)).exhausted


async def test_a_hot_tweet_and_a_deleted_marker_expire(own_settings, cache) -> None:
    """10 min (`cache.tweet_ttl`) and an hour: the marker outlives every tweet that was filled before it."""
    hot = RedisTweets(cache.link, own_settings)
    await hot.fill([Tweet(BOB, ADA, "once", 1, BOB)])
    await hot.mark_deleted(ADA)
    ttls_ms = [await cache.link.call("PTTL", f"{cache.link.prefix}t:{key}") for key in (BOB, ADA)]

    assert 0 < ttls_ms[0] <= 600_000 < ttls_ms[1] <= 3_600_000
