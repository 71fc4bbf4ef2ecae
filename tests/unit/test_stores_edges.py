"""Purges of several edges. The edges are HTTP servers of this test."""

import asyncio
import contextlib
import dataclasses

import pytest

from system.kernel import cdn_links, settings
from system.kernel.errors import StoreUnavailable
from system.stores.nginx_edge import NginxEdge


class Edge:
    """Answers each purge with `status` and records its path."""

    def __init__(self):
        self.status, self.requests, self._server, self.url = 200, [], None, ""

    async def open(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def close(self):
        self._server.close()

    async def _serve(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.requests.append(head.split()[:2])
        writer.write(f"HTTP/1.1 {self.status} Purged\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        writer.close()


@pytest.fixture
async def rig():
    """Two edges, and the adapter of a service in the zone of the first one."""
    async with contextlib.AsyncExitStack() as stack:
        near, far = await Edge().open(), await Edge().open()
        config = settings.from_env({"TWEETLAB_CDN": f"{near.url} {far.url}", "TWEETLAB_EDGE_SECRET": "polly"})
        adapter = await NginxEdge.open(config)
        for closable in (near, far, adapter):
            stack.push_async_callback(closable.close)
        yield adapter, near, far


async def test_a_purge_is_sent_to_every_edge(rig):
    """A link names the near edge, but its signature is valid at every edge."""
    adapter, near, far = rig

    await adapter.purge("media/7/42")

    assert near.requests == far.requests == [["PURGE", f"{cdn_links.PURGE_PREFIX}/tweetlab-media/media/7/42"]]
    assert adapter.link("media/7/42", 60).startswith(near.url)


@pytest.mark.parametrize("how", ["down", "failing"])
@pytest.mark.parametrize("which", [0, 1])
async def test_a_purge_that_one_edge_did_not_confirm_fails_after_reaching_the_other(rig, how, which):
    """The caller repeats it until all edges confirm; an edge that was down drops its copy when back."""
    adapter, *edges = rig
    lost, other = edges[which], edges[1 - which]
    if how == "down":
        await lost.close()
    lost.status = 500

    with pytest.raises(StoreUnavailable, match=lost.url):
        await adapter.purge("media/7/42")
    assert len(other.requests) == 1


async def test_a_single_edge_gets_the_only_purge(rig):
    """As in `small`."""
    _, near, far = rig
    config = dataclasses.replace(settings.from_env({"TWEETLAB_EDGE_SECRET": "polly"}), cdn=near.url)
    adapter = await NginxEdge.open(config)

    await adapter.purge("media/7/42")
    await adapter.close()

    assert (len(near.requests), far.requests) == (1, [])
