"""Likes and protected users of a seeded lab: rows, index counts and API counts agree, also after a reset."""

import asyncio
import time

import aiohttp
import pytest

from scenarios import loader
from scenarios.world import seeded_world
from system.ports import Document
from system.stores.elasticsearch.index import REVISION
from tweetlab.lab import session
from tweetlab.run import seeding
from tweetlab.terminal import Screen

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.usefixtures("lab")]
SMALL = ["population.users=80", "population.follows={shape: even, mean: 6, max: 6}", "population.history=5 tweets",
         "population.likes=3", "population.protected=25 %", "population.cache=cold"]


async def counted(lab, tweet_ids):
    """Return tweet -> likes in the index."""
    (url, *_), index = lab.settings.stores.elasticsearch_urls, f"{lab.settings.namespace.lower()}-tweets-v{REVISION}"
    wanted = {"ids": list(map(str, tweet_ids))}
    async with aiohttp.ClientSession() as web, web.post(f"{url}/{index}/_mget", json=wanted) as reply:
        return {int(doc["_id"]): doc["_source"].get("likes", 0) for doc in (await reply.json())["docs"]}


async def get(lab, path, user):
    async with aiohttp.ClientSession() as web, web.get(
            lab.base_url + path, headers={"authorization": f"Bearer {lab.token(user)}"}) as reply:
        return reply.status, await reply.json(content_type=None)


def test_seeded_likes_and_protected_users_are_exact_and_a_reset_restores_them():
    """400 tweets, 1,200 likes, 20 protected users; the reset removes a run's own likes from rows and index."""
    scenario = loader.load("protected_circle", SMALL)
    world = seeded_world.draw(scenario.population, scenario.seed)
    graph, past, circle, likes = world.graph, world.past, world.circle, world.likes
    wanted = {tweet: likes.counts().get(tweet, 0) for tweet in past.tweet_ids.tolist()}
    public = [tweet for tweet, author in zip(past.tweet_ids.tolist(), past.authors.tolist()) if not circle.closed[author]]
    favorite = max(public, key=lambda tweet: wanted[tweet])

    async def go():
        async with session.opened(Screen(True), scenario.platform, scenario.policies) as lab:
            manifest = await seeding.ensure(lab, scenario, force=True)
            assert (manifest["liked"], manifest["protected_users"]) == (len(likes), len(circle.protected)) == (1200, 20)
            await exact(lab)
            fan = next(user for user in range(1, 81) if (favorite, user) not in set(likes.pairs()))
            await lab.ports.likes.like(fan, favorite)
            tweet = next(row for row in seeding.tweets_of(past) if row.id == favorite)
            await lab.ports.index.bulk_load([Document(tweet, time.time_ns(), wanted[favorite] + 1)])
            assert (await counted(lab, [favorite]))[favorite] == wanted[favorite] + 1
            await seeding.ensure(lab, scenario)
            await exact(lab)

    async def exact(lab):
        assert await lab.ports.likes.all_likes() == set(likes.pairs())
        assert await counted(lab, wanted) == wanted
        _, body = await get(lab, f"/2/tweets/{favorite}?tweet.fields=public_metrics", 1)
        assert body["data"]["public_metrics"]["like_count"] == wanted[favorite] > 0
        assert (await get(lab, f"/2/tweets/{favorite}/liking_users", 1))[1]["meta"]["result_count"] > 0
        owner = int(circle.protected[0])
        fans = set(graph.followers_of(owner).tolist())
        stranger = next(user for user in range(1, 81) if user not in fans | {owner})
        assert [(await get(lab, f"/2/users/{owner}/tweets", user))[0] for user in (stranger, min(fans))] == [403, 200]

    asyncio.run(go())
