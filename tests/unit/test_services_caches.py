"""What a cache that is full, or unavailable, must not cost."""

from __future__ import annotations

import asyncio

import pytest

from system import bootstrap
from system.kernel import clock, events, ids
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.http.asgi import Spent
from system.kernel.policies import Policies
from system.kernel.telemetry import metrics
from system.ports import Kind, Mode
from system.services.fanout.audience import Audience
from system.services.shared import change_feed, read_through
from system.services.shared.list_rebuild import CachedLists
from system.services.shared.publisher import Publisher
from system.services.shared.read_through import Profiles, Tweets, Usernames
from system.services.shared.visibility import Visibility
from system.services.tweets.handlers import IdSource, TweetService
from tests.fakes.log import MemoryLog
from tests.fakes.timelines import MemoryHotTweets, MemoryTimelines
from tests.fakes.tweets import MemoryTweets
from tests.fakes.users import MemoryUsers


async def test_cached_profiles_are_returned_when_the_cache_makes_room(monkeypatch):
    """A request that fills the cache must not lose the authors that it found in it."""
    monkeypatch.setattr(read_through, "MAX_PROFILES", 2)
    users = MemoryUsers()
    user_ids = [(await users.create(name, name, "")).id for name in ("ann", "bob", "eve")]
    profiles = Profiles(users, 60.0)
    await profiles.get(user_ids[:2])

    assert [user.id for user in await profiles.get([*user_ids, 999])] == user_ids


async def test_a_delete_is_published_while_redis_does_not_answer():
    """It is durable: the fan-out worker hides the tweet as soon as it can, without waiting for the relay."""
    class Away(MemoryHotTweets):
        async def mark_deleted(self, tweet_id: int) -> None:
            raise StoreUnavailable("Redis is away")

    store, log, hot, cache, users = MemoryTweets(), MemoryLog(), Away(), MemoryTimelines(), MemoryUsers()
    ports = bootstrap.ports_of({"tweets": store, "log": log, "hot": hot, "timelines": cache, "users": users})
    publisher = Publisher(log, hot)
    lists = CachedLists(cache, hot, store, users, Policies().timeline)
    service = TweetService(ports, lists, Tweets(hot, store), publisher, IdSource(), Visibility(users, 2.0), Usernames(users, hot))
    now_ms = clock.SystemClock().wall_ms()
    tweet_id = ids.compose(now_ms, 1, 1)
    await store.append(Tweet(tweet_id, 7, "once", now_ms, tweet_id))

    with pytest.raises(StoreUnavailable):
        await service.delete(7, tweet_id, "")
    publisher.start()
    await asyncio.sleep(0.02)
    await publisher.stop()

    assert [place[0] for place in log.records] == [events.TWEET_DELETED]


class SlowStore(MemoryTweets):
    """Counts its reads and yields to other tasks during each."""

    reads = 0

    async def get(self, tweet_ids):
        self.reads += 1
        found = await super().get(tweet_ids)
        await asyncio.sleep(0.02)
        return found


async def posted(store: MemoryTweets) -> int:
    now_ms = clock.SystemClock().wall_ms()
    tweet_id = ids.compose(now_ms, 1, 1)
    await store.append(Tweet(tweet_id, 7, "once", now_ms, tweet_id))
    return tweet_id


@pytest.mark.parametrize(("coalesce", "reads"), [(True, 1), (False, 20)])
async def test_callers_that_miss_the_same_tweet_share_one_read(coalesce, reads):
    """Twenty concurrent callers: one read of Cassandra with `coalesce.misses` 1, twenty without."""
    store = SlowStore()
    tweet_id = await posted(store)
    reader = Tweets(MemoryHotTweets(), store, coalesce)

    results = await asyncio.gather(*(reader.live([tweet_id], Spent()) for _ in range(20)))

    assert all(tweet_id in found for found in results)
    assert store.reads == reads


async def test_a_caller_that_waits_for_another_read_sees_a_delete_in_between():
    """It reads the cache afterwards: the read that it waited for is older than its own request."""
    store, hot = SlowStore(), MemoryHotTweets()
    tweet_id = await posted(store)
    reader = Tweets(hot, store)
    first = asyncio.ensure_future(reader.live([tweet_id], Spent()))
    await asyncio.sleep(0.005)
    await store.delete(tweet_id, 7, "")
    await hot.mark_deleted(tweet_id)
    late = asyncio.ensure_future(reader._missed([tweet_id]))

    await first
    assert await late == {}


async def test_a_failed_read_fails_only_its_own_caller():
    """The callers that waited read for themselves."""
    class Once(SlowStore):
        async def get(self, tweet_ids):
            found = await super().get(tweet_ids)
            if self.reads == 1:
                raise StoreUnavailable("Cassandra hiccups")
            return found

    store = Once()
    tweet_id = await posted(store)
    reader = Tweets(MemoryHotTweets(), store)

    results = await asyncio.gather(*(reader.live([tweet_id], Spent()) for _ in range(3)), return_exceptions=True)

    assert [isinstance(result, StoreUnavailable) for result in results] == [True, False, False]


async def test_a_changed_profile_is_read_again_once_the_change_feed_names_it(monkeypatch):
    """Without waiting for its TTL of 60 s: the users service announces changed users.

    A reset announces all users.
    """
    monkeypatch.setattr(change_feed, "EVERY_S", 0.0)
    users, hot = MemoryUsers(), MemoryHotTweets()
    ann = (await users.create("ann", "Ann", "")).id
    profiles = Profiles(users, 60.0, hot)
    await profiles.get([ann])
    await users.set_profile(ann, "Anna", None)

    unheard = (await profiles.get([ann]))[0].name
    await hot.announce([ann])
    heard = (await profiles.get([ann]))[0].name
    await users.set_profile(ann, "Annabel", None)
    await hot.announce([])

    assert (unheard, heard, (await profiles.get([ann]))[0].name) == ("Ann", "Anna", "Annabel")


async def test_without_the_change_feed_a_profile_lives_until_its_ttl():
    """While Redis does not answer, `cache.profile_ttl` bounds the age of a profile."""
    class Away(MemoryHotTweets):
        async def changes(self, since):
            raise StoreUnavailable("Redis is away")

    users = MemoryUsers()
    ann = (await users.create("ann", "Ann", "")).id
    profiles = Profiles(users, 0.05, Away())
    await profiles.get([ann])
    await users.set_profile(ann, "Anna", None)

    at_once = (await profiles.get([ann]))[0].name
    await asyncio.sleep(0.06)

    assert (at_once, (await profiles.get([ann]))[0].name) == ("Ann", "Anna")


async def test_every_cache_counts_its_hits_and_misses():
    """tweetlab_cache_requests_total increases for tweets and profiles."""
    store, hot, users = MemoryTweets(), MemoryHotTweets(), MemoryUsers()
    tweet_id, ann = await posted(store), (await users.create("ann", "Ann", "")).id
    reader, profiles = Tweets(hot, store), Profiles(users, 60.0)
    for _ in range(3):
        await reader.live([tweet_id], Spent())
        await profiles.get([ann])
    exposition = metrics.text().decode()

    for cache in ("tweets", "profiles"):
        hits = [float(line.split()[-1]) for line in exposition.splitlines() if f'cache="{cache}",result="hit"' in line]
        assert hits and hits[0] >= 2


async def test_an_audience_does_not_survive_a_reset(monkeypatch):
    """The fan-out caches sizes for 30 s; after a reset, which announces all users, it reads them again."""
    monkeypatch.setattr(change_feed, "EVERY_S", 0.0)
    users, hot = MemoryUsers(), MemoryHotTweets()
    ann = (await users.create("ann", "Ann", "")).id
    audience = Audience(users, hot=hot)
    audience.record_size(ann, 5_000)
    await audience.size(ann)

    kept = await audience.size(ann)
    await hot.announce([])

    assert (kept, await audience.size(ann)) == (5_000, 0)


async def test_a_database_without_the_earlier_modes_deletes_every_cached_list():
    """Tweets from the pulled time are in no home list.

    If PostgreSQL was restored from a backup, readers would not merge them.
    """
    users, lists, now = MemoryUsers(), MemoryTimelines(), [0.0]
    ann, bob = [(await users.create(name, name, "")).id for name in ("ann", "bob")]
    await users.set_mode(ann, Mode.PULL, 1)
    audience = Audience(users, now=lambda: now[0], on_replaced=lists.clear)
    await lists.seed(Kind.HOME, {bob: []})
    assert (await audience.mode(ann)).mode == Mode.PULL

    now[0] = 1.0
    await users.set_mode(ann, Mode.PUSH, 2)
    await audience.mode(ann)
    kept = await lists.page(Kind.HOME, bob, None, 5)
    users._modes.clear()
    now[0] = 2.0

    assert await audience.mode(ann) is None
    assert (kept is not None, await lists.page(Kind.HOME, bob, None, 5)) == (True, None)


async def test_overlapping_reads_of_the_modes_delete_nothing():
    """A read that started before an author crossed the limit may end after one that shows it.

    None of them is missing.
    """
    users, lists, slow = MemoryUsers(), MemoryTimelines(), asyncio.Event()
    ann, bob = [(await users.create(name, name, "")).id for name in ("ann", "bob")]
    await lists.seed(Kind.HOME, {bob: []})
    read, calls = users.modes, []

    async def modes():
        rows = await read()
        calls.append(rows)
        if len(calls) == 1:
            await slow.wait()
        return rows

    users.modes = modes
    audience = Audience(users, on_replaced=lists.clear)
    first = asyncio.create_task(audience.mode(ann))
    await asyncio.sleep(0)
    await users.set_mode(ann, Mode.PULL, 1)
    audience.expire_modes()
    second = asyncio.create_task(audience.mode(ann))
    await asyncio.sleep(0.01)
    slow.set()
    await asyncio.gather(first, second)

    assert await lists.page(Kind.HOME, bob, None, 5) is not None
