"""`mention_visible_p99_s`: the time from the acknowledgment of a post until the mentioned user finds it in their mentions."""

from __future__ import annotations

import asyncio
import math
import random
import time

import aiohttp
import orjson

from scenarios import loader
from scenarios.world import seeded_tweets
from system.kernel.errors import CouldNotRun
from tweetlab.lab import session
from tweetlab.run import seeding
from tweetlab.terminal import Screen

POSTS_PER_S, WARM_S, FOR_S = 20.0, 10.0, 60.0
POLL_S, PATIENCE_S = 0.05, 15.0
READERS = 200


async def visible_p99_s() -> float:
    """Return the p99 in s. Every post mentions one user; each is awaited. Raises CouldNotRun if one failed."""
    screen = Screen()
    scenario = loader.load("first_run")
    async with session.opened(screen, "small", scenario.policies) as lab:
        await seeding.ensure(lab, scenario)
        headers = {user: {"authorization": f"Bearer {lab.token(user)}"} for user in range(1, READERS + 1)}
        await _run(lab.base_url, headers, WARM_S, seed=1)
        waits_s = sorted(await _run(lab.base_url, headers, FOR_S, seed=2))
    screen.say(f"{len(waits_s)} mentions: p50 {waits_s[len(waits_s) // 2]:.3f} s, worst {waits_s[-1]:.3f} s")
    return waits_s[math.ceil(0.99 * len(waits_s)) - 1]


async def _run(base_url: str, headers: dict[int, dict[str, str]], for_s: float, seed: int) -> list[float]:
    """Post at POSTS_PER_S, Poisson, regardless of replies; return the seconds until each was visible."""
    dice, waits_s, problems = random.Random(seed), list[float](), list[str]()
    connector = aiohttp.TCPConnector(limit=256, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as web:
        async def post() -> None:
            author, reader = dice.sample(sorted(headers), 2)
            text = f"@{seeding.username(reader)} {dice.choice(seeded_tweets.vocabulary())}"
            try:
                async with web.post(base_url + "/2/tweets", headers=headers[author], json={"text": text}) as reply:
                    body = orjson.loads(await reply.read())
                    if reply.status != 201:
                        raise TimeoutError(f"a post returned {reply.status}")
                waits_s.append(await _until_visible(web, base_url, headers[reader], reader, body["data"]["id"]))
            except (aiohttp.ClientError, TimeoutError) as problem:
                problems.append(f"{type(problem).__name__} {problem}")

        async with asyncio.TaskGroup() as tasks:
            ends_s = time.monotonic() + for_s
            while time.monotonic() < ends_s:
                tasks.create_task(post())
                await asyncio.sleep(dice.expovariate(POSTS_PER_S))
    if problems or not waits_s:
        raise CouldNotRun(f"{len(problems)} posts or reads failed: {problems[0] if problems else 'none was sent'}.")
    return waits_s


async def _until_visible(web: aiohttp.ClientSession, base_url: str, caller: dict[str, str], reader: int, tweet_id: str) -> float:
    """Return the seconds from now until the mentions of `reader` hold the tweet; polled every POLL_S."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + PATIENCE_S:
        async with web.get(f"{base_url}/2/users/{reader}/mentions?max_results=20&tweet.fields=id", headers=caller) as reply:
            body = orjson.loads(await reply.read())
            if reply.status == 200 and tweet_id in (tweet["id"] for tweet in body.get("data", ())):
                return time.monotonic() - began_s
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"a mention was not visible within {PATIENCE_S:.0f} s of its acknowledgment")
