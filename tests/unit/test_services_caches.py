"""What a cache that is full, or away, must not cost."""

from __future__ import annotations

import asyncio

import pytest

from system import bootstrap
from system.kernel import clock, events, ids
from system.kernel.errors import StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.policies import Policies
from system.services.shared import reading
from system.services.shared.lists import Lists
from system.services.shared.publisher import Publisher
from system.services.shared.reading import Profiles, Tweets
from system.services.tweets.handlers import IdSource, TweetService
from system.stores.memory_log import MemoryLog
from system.stores.memory_timelines import MemoryHotTweets, MemoryTimelines
from system.stores.memory_tweets import MemoryTweets
from system.stores.memory_users import MemoryUsers


async def test_profiles_that_were_kept_are_told_when_the_cache_makes_room(monkeypatch):
    """The page that fills the cache must not lose the authors it found in it."""
    monkeypatch.setattr(reading, "MAX_PROFILES", 2)
    users = MemoryUsers()
    made = [(await users.create(name, name, "")).id for name in ("ann", "bob", "eve")]
    profiles = Profiles(users, 60.0)
    await profiles.get(made[:2])

    assert [user.id for user in await profiles.get([*made, 999])] == made


async def test_a_delete_is_announced_though_redis_does_not_answer():
    """It is durable: the fan-out worker hides the tweet as soon as it can, not when the relay comes by."""
    class Away(MemoryHotTweets):
        async def mark_deleted(self, tweet_id: int) -> None:
            raise StoreUnavailable("Redis is away")

    store, log, hot, cache, users = MemoryTweets(), MemoryLog(), Away(), MemoryTimelines(), MemoryUsers()
    ports = bootstrap.ports_of({"tweets": store, "log": log, "hot": hot, "timelines": cache, "users": users})
    publisher = Publisher(log, hot)
    lists = Lists(cache, hot, store, users, Policies().timeline)
    service = TweetService(ports, lists, Tweets(hot, store), publisher, IdSource())
    now_ms = clock.SystemClock().wall_ms()
    tweet_id = ids.compose(now_ms, 1, 1)
    await store.append(Tweet(tweet_id, 7, "once", now_ms, tweet_id))

    with pytest.raises(StoreUnavailable):
        await service.delete(7, tweet_id, "")
    publisher.start()
    await asyncio.sleep(0.02)
    await publisher.stop()

    assert [place[0] for place in log.records] == [events.TWEET_DELETED]
