"""Two CDN edges: a link holds at both, a deleted picture is forgotten by both, also by one that was away."""

import asyncio
import hashlib
import time
import uuid

import aiohttp
import pytest

from tweetlab.lab import session
from tweetlab.run import smoke

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.campaign]
SWEEP_S = 30.0  # between two tries of the collector
MORE_S = 20.0   # the lease of a collector, and a machine that is busy


async def uploaded(web, lab, instance):
    """Return a picture's owner (a client), its id and its link, got through the balancer of a zone."""
    stranger = smoke.Api(web, session.public_url(lab, instance))
    name, password = f"e{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    await stranger.call("POST", "/2/users", json={"username": name, "name": "Polly", "password": password})
    form = {"grant_type": "password", "username": name, "password": password}
    owner = stranger.as_user((await stranger.call("POST", "/2/oauth2/token", data=form))["access_token"])
    wish = {"media_type": "image/png", "total_bytes": len(smoke.PICTURE), "sha256": hashlib.sha256(smoke.PICTURE).hexdigest()}
    made = (await owner.call("POST", "/2/media/upload/initialize", json=wish))["data"]
    async with web.put(made["upload_url"], data=smoke.PICTURE, headers=made["upload_headers"]) as answer:
        assert answer.status == 200, await answer.text()
    await owner.call("POST", f"/2/media/upload/{made['id']}/finalize")
    return owner, made["id"], (await owner.call("GET", f"/2/media/{made['id']}"))["data"]["url"]


def at_edge(lab, link, instance):
    """Return the same link at another edge."""
    _, _, path = link.removeprefix("http://").partition("/")
    return f"http://{lab.plan.of('nginx', instance)}/{path}"


async def got(web, url):
    """Return the status, and what the cache says."""
    async with web.get(url) as answer:
        await answer.read()
        return answer.status, answer.headers.get("x-cache")


async def test_a_deleted_picture_is_forgotten_by_the_edge_that_was_away_when_it_is_back(cluster):
    """The one that stands forgets at once; the other one's cache is on disk, and the collector asks until it has heard."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as web:
        owner, media_id, link = await uploaded(web, cluster, 1)
        links = [at_edge(cluster, link, instance) for instance in (1, 2)]
        first = [await got(web, each) for each in links]
        again = [await got(web, each) for each in links]
        await cluster.auto_heal("cdn-2", False)
        await cluster.kill("cdn-2")
        try:
            await owner.call("DELETE", f"/2/media/{media_id}")
            near = await got(web, links[0])
        finally:
            await cluster.start_node("cdn-2")
            await cluster.auto_heal("cdn-2", True)
        began, away = time.monotonic(), await got(web, links[1])
        while (last := await got(web, links[1]))[0] == 200 and time.monotonic() - began < SWEEP_S + MORE_S:
            await asyncio.sleep(0.2)

    print(f"\nback with {away}, forgotten {time.monotonic() - began:.1f} s after its return")
    assert [status for status, _ in first] == [200, 200]
    assert again == [(200, "HIT"), (200, "HIT")], "a link's signature holds at both"
    assert near[0] == 404
    assert last[0] == 404
