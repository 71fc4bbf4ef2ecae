"""Several nodes of one storage: what one of them denies is looked for at the others."""

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
    """Serve `objects` by key as a storage node does, whatever bucket and signature; give its address and what it heard."""
    heard: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        key = request.path.partition("-media/")[2]
        if key:
            heard.append(f"{request.method} {key}")
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
        yield f"127.0.0.1:{runner.addresses[0][1]}", heard
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def blobs(first: str, *spares: str):
    """Open the adapter on these nodes."""
    at = settings.from_env({})
    stores = dataclasses.replace(at.stores, minio=first, minio_spares=spares)
    opened = await MinioBlobs.open(dataclasses.replace(at, stores=stores))
    try:
        yield opened
    finally:
        await opened.close()


async def test_an_object_that_a_returned_node_denies_is_read_from_another():
    """A node that comes back does not know its peers' drives for some seconds."""
    async with node({}) as (first, _), node({"media/1/2": b"a walrus"}) as (second, _), blobs(first, second) as storage:
        assert await storage.get("media/1/2") == b"a walrus"
        assert (await storage.head("media/1/2")).size == 8
        with pytest.raises(NotFound):
            await storage.get("media/1/3")
        assert await storage.head("media/1/3") is None


async def test_one_node_alone_is_asked_once():
    """What is not there costs a lab with a single storage nothing more."""
    async with node({}) as (first, heard), blobs(first) as storage:
        assert await storage.head("media/1/3") is None

    assert heard == ["HEAD media/1/3"]


async def test_a_spare_that_is_away_does_not_make_an_absent_object_an_error():
    """Two nodes of three may know all there is; the answer of the first stands."""
    async with node({}) as (first, _), blobs(first, "127.0.0.1:9") as storage:
        assert await storage.head("media/1/3") is None
