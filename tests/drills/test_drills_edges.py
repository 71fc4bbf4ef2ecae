"""Two CDN edges: a link is valid at both, and a purge reaches both, even one that was down."""

import asyncio
import hashlib
import time
import uuid

import aiohttp
import pytest

from tweetlab.lab import session
from tweetlab.run import smoke

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.campaign]
COLLECTOR_S = 30.0  # between two attempts of the orphan collector
MARGIN_S = 20.0     # for the collector's lease, and a busy machine


async def uploaded(web, lab, instance):
    """Upload a picture through the load balancer of a zone.

    Return its owner (an API client), its id and its link.
    """
    anonymous = smoke.Api(web, session.public_url(lab, instance))
    name, password = f"e{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    await anonymous.call("POST", "/2/users", json={"username": name, "name": "Polly", "password": password})
    form = {"grant_type": "password", "username": name, "password": password}
    owner = anonymous.as_user((await anonymous.call("POST", "/2/oauth2/token", data=form))["access_token"])
    data = smoke.PICTURE.data
    body = {"media_type": smoke.PICTURE.media_type, "total_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    upload = (await owner.call("POST", "/2/media/upload/initialize", json=body))["data"]
    async with web.put(upload["upload_url"], data=data, headers=upload["upload_headers"]) as answer:
        assert answer.status == 200, await answer.text()
    await owner.call("POST", f"/2/media/upload/{upload['id']}/finalize")
    return owner, upload["id"], (await owner.call("GET", f"/2/media/{upload['id']}"))["data"]["url"]


def at_edge(lab, link, instance):
    """Return the same link with the address of another edge."""
    _, _, path = link.removeprefix("http://").partition("/")
    return f"http://{lab.plan.of('nginx', instance)}/{path}"


async def get(web, url):
    """Return the HTTP status and the cache status."""
    async with web.get(url) as answer:
        await answer.read()
        return answer.status, answer.headers.get("x-cache")


async def test_a_deleted_picture_is_purged_from_an_edge_that_was_down_once_it_is_back(cluster):
    """The running edge purges it immediately.

    The other one's cache is on disk, and the collector retries until it is purged.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as web:
        owner, media_id, link = await uploaded(web, cluster, 1)
        links = [at_edge(cluster, link, instance) for instance in (1, 2)]
        first = [await get(web, each) for each in links]
        again = [await get(web, each) for each in links]
        await cluster.auto_heal("cdn-2", False)
        await cluster.kill("cdn-2")
        try:
            await owner.call("DELETE", f"/2/media/{media_id}")
            running = await get(web, links[0])
        finally:
            await cluster.start_node("cdn-2")
            await cluster.auto_heal("cdn-2", True)
        began, returned = time.monotonic(), await get(web, links[1])
        while (last := await get(web, links[1]))[0] == 200 and time.monotonic() - began < COLLECTOR_S + MARGIN_S:
            await asyncio.sleep(0.2)

    print(f"\nback with {returned}, purged {time.monotonic() - began:.1f} s after its return")
    assert [status for status, _ in first] == [200, 200]
    assert again == [(200, "HIT"), (200, "HIT")], "a link's signature is valid at both"
    assert running[0] == 404
    assert last[0] == 404
