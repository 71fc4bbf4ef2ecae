"""BlobStore: signed URLs for clients, and direct access to the same objects."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect

import aiohttp
import minio.error
import pytest
import urllib3
import yarl

from system.kernel.errors import LabError, NotFound, StoreUnavailable
from tests.helpers.adapters import opened

PICTURE = bytes(range(256)) * 40


async def put_by_url(url: str, data: bytes, headers: dict[str, str] | None = None) -> int:
    async with aiohttp.ClientSession() as client:
        async with client.put(yarl.URL(url, encoded=True), data=data, headers=headers) as reply:
            return reply.status


async def get_by_url(url: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as client, client.get(yarl.URL(url, encoded=True)) as reply:
        return reply.status, await reply.read()


async def test_a_client_uploads_and_reads_by_signed_urls(blobs) -> None:
    """One PUT, one GET; `head` returns size, type and the declared digest."""
    digest = hashlib.sha256(PICTURE).hexdigest()
    put = blobs.signed_put("7/cat é&1.png", "image/png", len(PICTURE), digest, 60)
    assert await put_by_url(put.url, PICTURE, put.headers) == 200
    assert await get_by_url(blobs.signed_get("7/cat é&1.png", 60)) == (200, PICTURE)
    blob = await blobs.head("7/cat é&1.png")
    assert (blob.key, blob.size, blob.content_type, blob.sha256) == ("7/cat é&1.png", 10_240, "image/png", digest)


async def test_an_upload_url_accepts_only_the_declared_bytes(blobs) -> None:
    """Other bytes of that size, another size or type, a missing header: refused, and nothing is stored."""
    digest = hashlib.sha256(PICTURE).hexdigest()
    put = blobs.signed_put("torn", "image/png", len(PICTURE), digest, 60)
    html = {**put.headers, "content-type": "text/html"}
    unbound = {name: value for name, value in put.headers.items() if name != "x-amz-checksum-sha256"}
    again = {name: value for name, value in put.headers.items() if name != "if-none-match"}

    assert await put_by_url(put.url, PICTURE[::-1], put.headers) == 400
    assert await put_by_url(put.url, PICTURE[:-1], put.headers) in (400, 403)
    assert await put_by_url(put.url, PICTURE, html) in (400, 403)
    assert await put_by_url(put.url, PICTURE, unbound) in (400, 403)
    assert await put_by_url(put.url, PICTURE, again) in (400, 403)
    assert await blobs.head("torn") is None


async def test_an_upload_url_works_once(blobs) -> None:
    """Also without a digest: a stored object is never replaced, even while the URL is still valid."""
    put = blobs.signed_put("once", "image/png", 5, "", 60)

    assert await put_by_url(put.url, b"first", put.headers) == 200
    assert await put_by_url(put.url, b"other", put.headers) == 412
    assert await blobs.get("once") == b"first"


async def test_a_removed_object_is_absent(blobs) -> None:
    """Removal is safe to repeat."""
    await blobs.put("x", b"0123456789", "text/plain")

    await blobs.remove("x")
    await blobs.remove("x")
    assert await blobs.head("x") is None
    with pytest.raises(NotFound):
        await blobs.get("x")


async def test_a_stored_object_is_read_back(blobs) -> None:
    """Read-after-write; a repeated put replaces the object; the digest is that of the bytes."""
    await blobs.put("a/b", b"first", "text/plain")
    await blobs.put("a/b", b"second", "text/html")
    blob = await blobs.head("a/b")
    assert await blobs.get("a/b") == b"second"
    assert (blob.size, blob.content_type, blob.sha256) == (6, "text/html", hashlib.sha256(b"second").hexdigest())


async def test_an_upload_without_a_digest_has_none(blobs) -> None:
    """The digest is empty if the uploader did not declare it."""
    put = blobs.signed_put("x", "text/plain", 5, "", 60)
    assert await put_by_url(put.url, b"12345", put.headers) == 200
    blob = await blobs.head("x")
    assert (blob.size, blob.sha256) == (5, "")


async def test_an_object_that_was_never_put_is_absent(blobs) -> None:
    """`head` returns None, `get` raises NotFound, the URL answers 404."""
    assert await blobs.head("nothing") is None
    with pytest.raises(NotFound, match="nothing"):
        await blobs.get("nothing")
    assert (await get_by_url(blobs.signed_get("nothing", 60)))[0] == 404


async def test_a_url_is_valid_only_for_its_method_and_key(blobs) -> None:
    """A URL for GET does not write, and a URL for one key does not read another."""
    await blobs.put("mine", b"secret", "text/plain")
    url = blobs.signed_get("mine", 60)
    assert await put_by_url(url, b"changed") == 403
    assert (await get_by_url(url.replace("/mine?", "/other?")))[0] == 403
    assert await blobs.get("mine") == b"secret"


@pytest.mark.real
async def test_a_store_without_its_bucket_is_not_ready(real_settings) -> None:
    """`ready` reports that uploads would be refused, and names the bucket."""
    from system.stores.s3.blobs import MinioBlobs

    store = await opened(MinioBlobs, real_settings)  # skips if no lab answers
    await store.drop()
    await store.close()
    blobs = await MinioBlobs.open(dataclasses.replace(real_settings, namespace="nobody"))
    with pytest.raises(StoreUnavailable, match="nobody-media"):
        await blobs.ready()
    await blobs.close()


@pytest.mark.real
async def test_a_call_to_an_s3_that_is_down_fails_definitely(real_settings) -> None:
    """A refused connection is a definite failure that names the address."""
    from system.stores.s3.blobs import MinioBlobs

    stores = dataclasses.replace(real_settings.stores, minio="127.51.50.1:9")
    blobs = await MinioBlobs.open(dataclasses.replace(real_settings, stores=stores))
    with pytest.raises(StoreUnavailable, match=r"127\.51\.50\.1:9") as refused:
        await blobs.put("x", b"", "text/plain")
    assert refused.value.definite
    with pytest.raises(StoreUnavailable):
        await blobs.prepare()
    await blobs.close()


def test_every_error_of_the_clients_is_mapped() -> None:
    """The adapter catches base classes of everything that aiohttp, urllib3 and minio-py can raise."""
    from system.stores.s3 import blobs as minio_blobs

    for module, bases in ((minio.error, minio.error.MinioException), (urllib3.exceptions, urllib3.exceptions.HTTPError)):
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if "Admin" in name or "Proxy" in name:  # neither the admin client nor a proxy is used
                continue
            if issubclass(kind, Exception) and not issubclass(kind, Warning) and kind.__module__ == module.__name__:
                assert issubclass(kind, bases), name
    errors = [kind for _, kind in inspect.getmembers(aiohttp, inspect.isclass)
              if issubclass(kind, aiohttp.ClientError | TimeoutError)]
    assert len(errors) > 10
    assert isinstance(minio_blobs.mapped(aiohttp.ServerDisconnectedError(), "s3"), LabError)
    assert not minio_blobs.mapped(aiohttp.ServerDisconnectedError(), "s3").definite
