"""Purges of several edges. The edges here are HTTP servers of this test."""

import asyncio
import contextlib
import dataclasses

import pytest

from system.kernel import cdn_links, settings
from system.kernel.errors import StoreUnavailable
from system.stores.nginx_edge import NginxEdge


class Edge:
    """Answers each purge with `status` and remembers its path."""

    def __init__(self):
        self.status, self.heard, self._server, self.url = 200, [], None, ""

    async def open(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def close(self):
        self._server.close()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heard.append(head.split()[:2])
        writer.write(f"HTTP/1.1 {self.status} Told\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        writer.close()


@pytest.fixture
async def rig():
    """Two edges, and a service of the first one's zone."""
    async with contextlib.AsyncExitStack() as stack:
        near, far = await Edge().open(), await Edge().open()
        told = settings.from_env({"TWEETLAB_CDN": f"{near.url} {far.url}", "TWEETLAB_EDGE_SECRET": "polly"})
        ours = await NginxEdge.open(told)
        for each in (near, far, ours):
            stack.push_async_callback(each.close)
        yield ours, near, far


async def test_every_edge_is_told_to_forget(rig):
    """A link leads to the near one, its signature holds at any."""
    ours, near, far = rig

    await ours.purge("media/7/42")

    assert near.heard == far.heard == [["PURGE", f"{cdn_links.PURGE_PREFIX}/tweetlab-media/media/7/42"]]
    assert ours.link("media/7/42", 60).startswith(near.url)


@pytest.mark.parametrize("how", ["away", "in trouble"])
@pytest.mark.parametrize("which", [0, 1])
async def test_a_purge_that_one_edge_did_not_hear_has_failed_and_the_other_heard_it(rig, how, which):
    """The caller asks again until all have forgotten; an edge that was away forgets when it is back."""
    ours, *edges = rig
    lost, other = edges[which], edges[1 - which]
    if how == "away":
        await lost.close()
    lost.status = 500

    with pytest.raises(StoreUnavailable, match=lost.url):
        await ours.purge("media/7/42")
    assert len(other.heard) == 1


async def test_an_only_edge_is_asked_alone(rig):
    """As in `small`."""
    _, near, far = rig
    told = dataclasses.replace(settings.from_env({"TWEETLAB_EDGE_SECRET": "polly"}), cdn=near.url)
    alone = await NginxEdge.open(told)

    await alone.purge("media/7/42")
    await alone.close()

    assert (len(near.heard), far.heard) == (1, [])
