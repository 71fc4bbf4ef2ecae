"""Contract of every like store: one row per tweet and user, counts of rows, an event per change."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from system.kernel import settings
from system.kernel.errors import Conflict
from system.kernel.policies import Policies
from system.ports import Like, LikeCount
from tests.helpers.adapters import SMALL
from tests.helpers.durable_stores import BOTH, durable_settings, fresh_author, fresh_id, likes, real_likes


@pytest.fixture(params=BOTH)
async def like_counts(request: pytest.FixtureRequest, real_settings: settings.Settings) -> AsyncIterator[Any]:
    if request.param == "memory":
        from tests.fakes.likes import MemoryLikeCounts

        yield MemoryLikeCounts()
        return
    from system.stores.redis.likes import RedisLikes
    from tests.contract import conftest

    store = await conftest.opened(RedisLikes, real_settings)
    yield store
    await store.clear()
    await store.close()


async def test_a_like_counts_once_and_its_version_grows_with_each_change(likes):
    """A repeat changes neither the count nor the version; the stamp of the count grows with every change."""
    ada, tweet = fresh_author(), fresh_id()

    assert await likes.like(ada, tweet) == Like(tweet, ada, True, 1)
    assert await likes.like(ada, tweet) == Like(tweet, ada, True, 1)
    assert await likes.counts([tweet]) == {tweet: LikeCount(1, 1)}
    assert await likes.unlike(ada, tweet) == Like(tweet, ada, False, 2)
    assert await likes.unlike(ada, tweet) == Like(tweet, ada, False, 2)
    assert await likes.counts([tweet]) == {tweet: LikeCount(0, 2)}
    assert await likes.like(ada, tweet) == Like(tweet, ada, True, 3)


async def test_a_tweet_that_was_never_liked_counts_zero(likes):
    """Every requested tweet gets a count, 0 without rows; an unlike without a like leaves no row."""
    ada, tweet = fresh_author(), fresh_id()

    assert await likes.unlike(ada, tweet) == Like(tweet, ada, False, 0)
    assert await likes.counts([tweet, tweet + 1]) == {tweet: LikeCount(0, 0), tweet + 1: LikeCount(0, 0)}
    assert await likes.counts([]) == {}


async def test_racing_likes_of_many_users_are_all_counted(likes):
    """Twenty users like concurrently, then half of them unlike concurrently: ten likes remain."""
    tweet, people = fresh_id(), [fresh_author() for _ in range(20)]

    await asyncio.gather(*(likes.like(user, tweet) for user in people))
    await asyncio.gather(*(likes.unlike(user, tweet) for user in people[::2]))

    assert (await likes.counts([tweet]))[tweet] == LikeCount(10, 30)
    assert await likes.liking_users(tweet, -1, 100) == people[1::2]
    assert await likes.liking_users(tweet, -1, 2, people[1:5]) == people[5:9:2]


async def test_likers_and_liked_tweets_are_paged_by_id(likes):
    """Likers ascend, liked tweets descend; each page continues where the one before ended."""
    people, tweets = sorted(fresh_author() for _ in range(3)), sorted(fresh_id() for _ in range(3))
    for user in people:
        await likes.like(user, tweets[0])
    for tweet in tweets:
        await likes.like(people[0], tweet)

    assert await likes.liking_users(tweets[0], -1, 2) == people[:2]
    assert await likes.liking_users(tweets[0], people[1], 2) == people[2:]
    assert await likes.liked_tweets(people[0], None, 2) == [tweets[2], tweets[1]]
    assert await likes.liked_tweets(people[0], tweets[1], 2) == [tweets[0]]
    assert await likes.liked(people[1], tweets) == {tweets[0]}


async def test_a_repeat_with_the_same_key_does_not_like_again(likes):
    """Liked with a key, unliked, sent again: it stays unliked. Another body with the key is refused."""
    ada, tweet = fresh_author(), fresh_id()

    assert (await likes.like(ada, tweet, key="k1")).liked is True
    await likes.unlike(ada, tweet)
    assert await likes.like(ada, tweet, key="k1") == Like(tweet, ada, False, 2)
    with pytest.raises(Conflict) as caught:
        await likes.like(ada, tweet + 1, key="k1")

    assert caught.value.status == 422
    assert (await likes.like(ada + 1, tweet, key="k1")).liked is True


async def test_every_change_is_published_with_the_tweet_as_its_key(likes):
    """Events of one tweet stay in order; a repeat is published too, since its first reply may be lost."""
    users = likes._users if hasattr(likes, "_users") else None
    if users is None:
        from system.stores.postgres.users import PostgresUsers

        users = PostgresUsers(likes._server_url, likes._database, Policies())
    published = []

    async def publish(events):
        published.extend(events)

    await users.drain_outbox(1000, publish)
    published.clear()
    ada, tweet = fresh_author(), fresh_id()
    await likes.like(ada, tweet, "trace-1")
    await likes.like(ada, tweet)
    await users.drain_outbox(1000, publish)

    assert [(event.topic, event.key, event.trace) for event in published] == [
        ("new_like", tweet, "trace-1"), ("new_like", tweet, "")]
    assert published[0].payload == {"tweet_id": tweet, "user_id": ada, "liked": True, "version": 1}


async def test_a_count_is_never_replaced_by_an_older_one(like_counts):
    """The stamp decides, in whatever order counts arrive."""
    tweet = fresh_id()

    assert await like_counts.get([tweet]) == {}
    assert await like_counts.put({tweet: LikeCount(5, 9), tweet + 1: LikeCount(0, 0)}) == 2
    assert await like_counts.put({tweet: LikeCount(4, 8)}) == 0
    assert await like_counts.put({tweet: LikeCount(5, 9)}) == 1
    assert await like_counts.get([tweet, tweet + 1, tweet + 2]) == {tweet: 5, tweet + 1: 0}
    assert await like_counts.put({}) == 0
