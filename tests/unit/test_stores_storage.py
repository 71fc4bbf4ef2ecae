"""Several nodes of one object store: an object that one node does not find is looked up on the others."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from aiohttp import web

from system.kernel import settings
from system.kernel.errors import NotFound
from system.stores.s3.blobs import MinioBlobs


@contextlib.asynccontextmanager
async def node(objects: dict[str, bytes]):
    """Serve `objects` like a storage node, for any bucket and signature; yield address and requests."""
    requests: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        key = request.path.partition("-media/")[2]
        if key:
            requests.append(f"{request.method} {key}")
        if request.path.startswith("/minio/health") or key in objects:
            return web.Response(body=objects.get(key, b""))
        return web.Response(status=404, text="<Code>NoSuchKey</Code>")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}", requests
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def blobs(first: str, *spares: str):
    """Open the adapter on these nodes."""
    defaults = settings.from_env({})
    stores = dataclasses.replace(defaults.stores, minio=first, minio_spares=spares)
    storage = await MinioBlobs.open(dataclasses.replace(defaults, stores=stores))
    try:
        yield storage
    finally:
        await storage.close()


async def test_an_object_that_a_restarted_node_does_not_find_is_read_from_another():
    """A restarted node does not see its peers' drives for some seconds."""
    async with node({}) as (first, _), node({"media/1/2": b"a walrus"}) as (second, _), blobs(first, second) as storage:
        assert await storage.get("media/1/2") == b"a walrus"
        assert (await storage.head("media/1/2")).size == 8
        with pytest.raises(NotFound):
            await storage.get("media/1/3")
        assert await storage.head("media/1/3") is None


async def test_a_single_node_gets_one_request():
    """An absent object costs a lab with a single storage node no extra request."""
    async with node({}) as (first, requests), blobs(first) as storage:
        assert await storage.head("media/1/3") is None

    assert requests == ["HEAD media/1/3"]


async def test_a_spare_that_is_down_does_not_turn_an_absent_object_into_an_error():
    """Two of three nodes may hold all objects; the answer of the first node counts."""
    async with node({}) as (first, _), blobs(first, "127.0.0.1:9") as storage:
        assert await storage.head("media/1/3") is None
