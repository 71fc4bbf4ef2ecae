"""A frozen service in the lab's real processes: after it resumes, requests in its sockets are past their deadlines."""

import asyncio
import os
import signal
import time

import aiohttp
import pytest

from system.kernel import scopes
from system.platform import native
from system.services.shared import signing
from tests.helpers import data_flow, services_rig
from tweetlab import home
from tweetlab.lab import session

pytestmark = pytest.mark.real


async def test_a_frozen_service_does_not_execute_expired_writes_when_it_resumes():
    """The caller already received a timeout; a tweet that appears later would be unexpected."""
    lab = native.Lab(home.ROOT, home.lab_range())
    (tweets,) = [row for row in await lab.status() if row.kind == "tweets"]
    base = session.public_url(lab)
    async with aiohttp.ClientSession() as web:
        wish = {"username": f"frozen{time.time_ns() % 10**8}", "password": "a password of ann"}
        async with web.post(f"{base}/2/users", json=wish) as answer:
            user = int((await answer.json())["data"]["id"])
        claims = {"sub": str(user), "exp": time.time() + 60, "scope": scopes.ALL, "jti": "t1.1"}
        headers = {"authorization": f"Bearer {signing.sign(claims, session.secret_of(lab))}"}

        async def post(text, **more):
            async with web.post(f"{base}/2/tweets", json={"text": text}, headers=headers | more) as answer:
                return answer.status

        async def lets_in():
            return await post("before") == 201  # a refused one definitely has no effect: the list below would show it

        await services_rig.until(lets_in)
        os.kill(tweets.pid, signal.SIGSTOP)
        try:
            late = await asyncio.gather(*(post(f"late {n}", **{"x-deadline-ms": "500"}) for n in range(3)))
            await asyncio.sleep(0.5)  # longer than the deadline of the requests
        finally:
            os.kill(tweets.pid, signal.SIGCONT)

        async def is_served_again():
            return await post("after") == 201

        async def is_at_rest():
            values = await asyncio.to_thread(data_flow.scraped, lab.paths)
            return values[f"tweets/{tweets.name}"]["tweetlab_requests_in_flight"] == 0

        await services_rig.until(is_served_again)  # load balancer and circuit breaker have noticed the freeze
        await services_rig.until(is_at_rest)  # all requests in its sockets are processed
        async with web.get(f"{base}/2/users/{user}/tweets", headers=headers) as answer:
            texts = [tweet["text"] for tweet in (await answer.json()).get("data", ())]

    assert late == [504] * 3
    assert texts == ["after", "before"]
