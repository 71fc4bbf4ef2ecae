"""Media on the real MinIO, PostgreSQL, Kafka and nginx: immutable uploads, and links that are checked before the cache."""

from __future__ import annotations

import asyncio
import hashlib
import io
import secrets
import time
from dataclasses import replace

import aiohttp
import minio
import pytest
import yarl

from scenarios.world import pictures
from system.kernel import cdn_links
from system.kernel.policies import MediaKnobs, Policies
from system.ports import MediaState
from system.services.media import app as media
from system.services.media.handlers import Media
from system.services.media.orphan_collector import Collector
from system.services.media.stripping import ExifTool
from system.services.shared.visibility import Visibility
from tests.helpers import services_rig
from tests.helpers.pictures import plain_png
from tests.helpers.services_rig import until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

PNG = b"\x89PNG\r\n\x1a\n"


async def put(rig, place: dict, data: bytes) -> int:
    async with rig.session.put(yarl.URL(place["upload_url"], encoded=True), data=data, headers=place["upload_headers"]) as answer:
        return answer.status


async def place_for(rig, owner: int, data: bytes, digest: bool = True) -> dict:
    named = {"sha256": hashlib.sha256(data).hexdigest()} if digest else {}
    wish = {"media_type": "image/png", "total_bytes": len(data), **named}
    status, body, _ = await rig.ask("POST", "/2/media/upload/initialize", owner, json=wish)
    assert status == 201, body
    return body["data"]


async def uploaded(rig, owner: int, data: bytes) -> str:
    place = await place_for(rig, owner, data)
    assert await put(rig, place, data) == 200
    status, body, _ = await rig.ask("POST", f"/2/media/upload/{place['id']}/finalize", owner)
    assert (status, body["data"]["sha256"]) == (200, hashlib.sha256(data).hexdigest())
    return place["id"]


async def link(rig, viewer: int, media_id: str) -> str:
    status, body, _ = await rig.ask("GET", f"/2/media/{media_id}", viewer)
    assert status == 200, body
    return body["data"]["url"]


async def read(rig, url: str, method: str = "GET", **headers: str) -> tuple[int, str | None, bytes]:
    """Return (status, cache status, bytes); the path is sent exactly as in `url`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with rig.session.request(method, yarl.URL(url, encoded=True), headers=named) as answer:
        return answer.status, answer.headers.get("X-Cache"), await answer.read()


async def test_the_cache_key_is_the_path_and_hits_return_the_upload(rig):
    """A miss, then hits with other signatures, for other viewers, for ranges and HEAD."""
    ann, bob = await rig.people("ann", "bob")
    data = plain_png()
    media_id = await uploaded(rig, ann, data)
    await rig.post(ann, "look", media=[media_id])
    first = await link(rig, ann, media_id)
    await asyncio.sleep(1.0)  # so that the other link expires in another second
    other = await link(rig, bob, media_id)

    assert first != other and first.partition("?")[0] == other.partition("?")[0]
    assert await read(rig, first) == (200, "MISS", data)
    assert await read(rig, other) == (200, "HIT", data)
    assert await read(rig, other, range="bytes=3-9") == (206, "HIT", data[3:10])
    assert await read(rig, other, "HEAD") == (200, "HIT", b"")


@pytest.mark.parametrize("number", range(len(pictures.TYPES)))
async def test_a_reader_gets_a_picture_without_its_position(rig, number):
    """All four types, from the edge: the same look, another file, and the API states its size and digest."""
    ann, bob = await rig.people("ann", "bob")
    picture = pictures.draw(time.monotonic_ns(), number)
    wish = {"media_type": picture.media_type, "total_bytes": len(picture.data),
            "sha256": hashlib.sha256(picture.data).hexdigest()}
    _, body, _ = await rig.ask("POST", "/2/media/upload/initialize", ann, json=wish)
    place = body["data"]
    assert await put(rig, place, picture.data) == 200
    assert (await rig.ask("POST", f"/2/media/upload/{place['id']}/finalize", ann))[0] == 200
    await rig.post(ann, "look", media=[place["id"]])

    _, shown, _ = await rig.ask("GET", f"/2/media/{place['id']}", bob)
    status, _, served = await read(rig, shown["data"]["url"])

    assert status == 200 and pictures.canaries_in(picture.data) > 0 == pictures.canaries_in(served)
    assert pictures.look(served) == pictures.look(picture.data)
    assert (shown["data"]["size"], shown["data"]["sha256"]) == (len(served), hashlib.sha256(served).hexdigest())


async def test_the_uploaded_bytes_are_out_of_reach_of_the_edge(rig):
    """Not below the path that it serves, not readable with its credentials, and empty after finalize."""
    (ann,) = await rig.people("ann")
    data = plain_png()
    place = await place_for(rig, ann, data)
    assert await put(rig, place, data) == 200
    key, bucket = cdn_links.upload_key(place["id"]), cdn_links.bucket(rig.config.namespace)
    reader = minio.Minio(rig.config.stores.minio, cdn_links.STORAGE_USER, cdn_links.storage_password(rig.config.edge_secret),
                         secure=False, region="us-east-1")

    assert (await read(rig, rig.ports.edge.link(key, 60)))[0] == 404
    with pytest.raises(minio.error.S3Error, match="Access Denied"):
        reader.get_object(bucket, key)
    assert (await rig.ask("POST", f"/2/media/upload/{place['id']}/finalize", ann))[0] == 200
    assert await rig.ports.blobs.get(key) == b""


async def test_a_warm_cache_serves_nothing_without_a_valid_signature(rig):
    """Missing, forged, of another picture, with another expiry, or expired: 403, and nothing from the cache."""
    (ann,) = await rig.people("ann")
    media_id, second = await uploaded(rig, ann, plain_png()), await uploaded(rig, ann, plain_png())
    good = await link(rig, ann, media_id)
    assert [(await read(rig, good))[1] for _ in range(2)] == ["MISS", "HIT"]
    path, _, query = good.partition("?")
    ends, signature = (part.partition("=")[2] for part in query.split("&"))
    expired = rig.ports.edge.link(cdn_links.object_key(media_id), -1)
    short = rig.ports.edge.link(cdn_links.object_key(media_id), 1)
    assert (await read(rig, short))[0] == 200

    for bad in (path, f"{path}?e={ends}&s={signature[::-1]}", f"{path}?e={int(ends) + 1}&s={signature}", f"{path}?s={signature}",
                f"{path}?e=&s={signature}", good.replace(media_id.split("_")[1], second.split("_")[1]), expired):
        status, cache, body = await read(rig, bad)
        assert (status, cache) == (403, None) and PNG not in body, bad
    await asyncio.sleep(2.1)
    assert (await read(rig, short))[:2] == (403, None)


@pytest.mark.parametrize("path", [
    "/", "/nginx.conf", "/{bucket}", "/{bucket}/", "/{bucket}/media/", "/{bucket}/media/7/", "/{bucket}/media/../media",
    "/{bucket}/media/7/8/../../../nginx.conf", "/{bucket}/media/7/%2e%2e/%2e%2e/etc/passwd", "/{bucket}/media/7/8%00",
    "/../../etc/passwd", "/.minio.sys/config/config.json", "/{bucket}/media/7/8/", "//minio/admin/v3/info",
    "/purge/{bucket}/media/7/8",
])
async def test_the_edge_serves_only_media(rig, path):
    """No listing, no files, no path traversal out of the bucket: 4xx, signed or not."""
    bucket = cdn_links.bucket(rig.config.namespace)
    path = path.format(bucket=bucket)
    for url in (rig.config.cdn + path, cdn_links.link(rig.config.cdn, path, cdn_links.link_key(rig.config.edge_secret), 2**31)):
        status, cache, body = await read(rig, url)
        assert status in (400, 403, 404, 405) and cache is None and b"root:" not in body


async def test_a_path_that_normalizes_to_a_signed_one_is_that_path(rig):
    """nginx normalizes `..` before it checks: signature and cache key are of the normalized path."""
    (ann,) = await rig.people("ann")
    data = plain_png()
    good = await link(rig, ann, await uploaded(rig, ann, data))
    owner = good.split("/media/")[1].split("/")[0]

    assert await read(rig, good.replace(f"/media/{owner}/", f"/media/9/../{owner}/")) == (200, "MISS", data)
    assert await read(rig, good) == (200, "HIT", data)


async def test_a_protected_authors_picture_stays_visible_to_followers_only_with_a_warm_cache(rig):
    """Point 17: viewers that may read the author get a link; the path alone gives no access to the cache."""
    ann, bob, eve = await rig.people("ann", "bob", "eve")
    status, _, _ = await rig.ask("PUT", "/2/users/me", ann, json={"protected": True})
    assert status == 200
    assert (await rig.ask("POST", f"/2/users/{bob}/following", bob, json={"target_user_id": str(ann)}))[0] == 200
    data = plain_png()
    media_id = await uploaded(rig, ann, data)
    await rig.post(ann, "for friends", media=[media_id])
    assert (await rig.ask("GET", f"/2/media/{media_id}", bob))[0] == 404  # the follow request is pending
    assert (await rig.ask("POST", f"/2/users/{ann}/follow_requests/{bob}", ann))[0] == 200
    url = await link(rig, bob, media_id)
    assert [(await read(rig, url))[1] for _ in range(2)] == ["MISS", "HIT"]

    status, body, _ = await rig.ask("GET", f"/2/media/{media_id}", eve)
    assert status == 404 and "url" not in str(body)
    assert (await read(rig, url.partition("?")[0]))[:2] == (403, None)
    assert (await rig.ask("DELETE", f"/2/users/{ann}/followers/{bob}", ann))[0] == 200
    assert (await rig.ask("GET", f"/2/media/{media_id}", bob))[0] == 404


async def test_deleting_the_tweet_removes_its_picture_from_storage_and_cache(rig):
    """No new link from the acknowledgement on; soon after, a link that is still valid gets 404."""
    ann, bob = await rig.people("ann", "bob")
    media_id = await uploaded(rig, ann, plain_png())
    tweet = await rig.post(ann, "look", media=[media_id])
    url = await link(rig, bob, media_id)
    assert [(await read(rig, url))[1] for _ in range(2)] == ["MISS", "HIT"]

    assert (await rig.ask("DELETE", f"/2/tweets/{tweet}", ann))[0] == 200
    assert (await rig.ask("GET", f"/2/media/{media_id}", bob))[0] == 404

    async def gone() -> bool:
        return (await read(rig, url))[:2] == (404, "MISS")

    await until(gone)
    assert await rig.ports.blobs.head(cdn_links.object_key(media_id)) is None


async def test_deleting_the_medium_purges_it_immediately_and_only_with_the_labs_key(rig):
    """Only its owner may delete it; a stranger's PURGE is refused and the picture stays."""
    ann, bob = await rig.people("ann", "bob")
    media_id = await uploaded(rig, ann, plain_png())
    url = await link(rig, ann, media_id)
    await read(rig, url)
    purge = url.partition("?")[0].replace(rig.config.cdn, rig.config.cdn + cdn_links.PURGE_PREFIX)

    assert (await read(rig, purge, "PURGE"))[0] == 403
    assert (await read(rig, purge, "PURGE", x_edge_key="0" * 40))[0] == 403
    assert (await read(rig, url, "PURGE"))[0] in (403, 405)
    assert (await read(rig, url))[:2] == (200, "HIT")
    assert (await rig.ask("DELETE", f"/2/media/{media_id}", bob))[0] == 403
    assert (await rig.ask("DELETE", f"/2/media/{media_id}", ann))[:2] == (200, {"data": {"deleted": True}})
    assert (await read(rig, url))[:2] == (404, "MISS")


async def test_a_finalized_picture_cannot_be_replaced_through_its_upload_url(rig):
    """The URL is still valid, but stores nothing: neither other bytes nor the same bytes again."""
    (ann,) = await rig.people("ann")
    data, evil = plain_png(), plain_png()
    place = await place_for(rig, ann, data)
    assert await put(rig, place, evil) == 400
    assert await put(rig, place, data) == 200
    assert (await rig.ask("POST", f"/2/media/upload/{place['id']}/finalize", ann))[0] == 200
    bare = {"content-type": "image/png"}

    assert await put(rig, place, data) == 412
    assert await put(rig, place, evil) in (400, 412)
    assert await put(rig, {**place, "upload_headers": bare}, evil) in (400, 403)
    assert (await read(rig, await link(rig, ann, place["id"])))[2] == data


@pytest.mark.parametrize(("data", "digest", "says"), [
    (b"<html><script>alert(1)</script></html>", True, "3c 68 74 6d"),
    (b"\xff\xd8\xff\xe0 a jpeg", True, "not image/png"),
    (b"GIF89a", False, "not image/png"),
])
async def test_finalize_refuses_data_that_are_no_picture_of_the_declared_type(rig, data, digest, says):
    """By the first bytes, with or without a declared digest; the upload is dropped, since it cannot be fixed."""
    (ann,) = await rig.people("ann")
    place = await place_for(rig, ann, data, digest)
    assert await put(rig, place, data) == 200

    status, body, _ = await rig.ask("POST", f"/2/media/upload/{place['id']}/finalize", ann)
    assert status == 400 and says in body["detail"]
    assert (await rig.ask("POST", f"/2/media/upload/{place['id']}/finalize", ann))[0] == 404


async def test_a_tweet_takes_only_its_authors_finalized_and_unattached_media(rig):
    """Unknown, of another user, not finalized, already attached: 400, and the tweet is not created."""
    ann, bob = await rig.people("ann", "bob")
    mine, foreign = await uploaded(rig, ann, plain_png()), await uploaded(rig, bob, plain_png())
    unchecked = (await place_for(rig, ann, plain_png()))["id"]
    taken = await uploaded(rig, ann, plain_png())
    tweet = await rig.post(ann, "first", media=[taken])

    for bad in (f"{ann}_1", foreign, unchecked, taken):
        status, body, _ = await rig.ask("POST", "/2/tweets", ann, json={"text": "x", "media": {"media_ids": [mine, bad]}})
        assert status == 400 and bad in body["detail"]
    key = {"idempotency-key": secrets.token_hex(8)}
    first, again = [await rig.post(ann, "second", media=[mine], headers=key) for _ in range(2)]
    assert first == again != tweet
    _, body, _ = await rig.ask("GET", f"/2/tweets/{first}", ann)
    assert body["data"]["attachments"] == {"media_keys": [mine]}


async def test_of_two_concurrent_posts_with_one_picture_one_succeeds(rig):
    """The row in PostgreSQL decides."""
    (ann,) = await rig.people("ann")
    media_id = await uploaded(rig, ann, plain_png())
    wish = {"text": "mine", "media": {"media_ids": [media_id]}}

    answers = await asyncio.gather(*(rig.ask("POST", "/2/tweets", ann, json=wish) for _ in range(6)))

    assert sorted(status for status, _, _ in answers) == [201, 400, 400, 400, 400, 400]


async def test_the_edges_user_may_only_read_media(rig):
    """No anonymous access to the bucket; the edge's credentials may neither list nor write nor read other objects."""
    config = rig.config
    (ann,) = await rig.people("ann")
    key, bucket = cdn_links.object_key(await uploaded(rig, ann, plain_png())), cdn_links.bucket(config.namespace)
    await rig.ports.blobs.put("other/1", b"secret", "text/plain")
    password = cdn_links.storage_password(config.edge_secret)
    reader = minio.Minio(config.stores.minio, cdn_links.STORAGE_USER, password, secure=False, region="us-east-1")

    def refused(work) -> str:
        with pytest.raises(minio.error.S3Error) as problem:
            work()
        return problem.value.code

    async with aiohttp.ClientSession() as web, web.get(f"http://{config.stores.minio}/{bucket}/{key}") as answer:
        assert answer.status == 403
    assert reader.get_object(bucket, key).status == 200
    assert {refused(lambda: list(reader.list_objects(bucket))), refused(lambda: reader.get_object(bucket, "other/1")),
            refused(lambda: reader.put_object(bucket, key, io.BytesIO(b"x"), 1)),
            refused(lambda: reader.remove_object(bucket, key))} == {"AccessDenied"}


async def test_orphans_are_collected_by_one_of_two_instances(rig):
    """Uploads never finalized or never attached are removed after their ages; a picture in a tweet stays. One instance runs."""
    (ann,) = await rig.people("ann")
    data = plain_png()
    started = await place_for(rig, ann, data)
    assert await put(rig, started, data) == 200
    loose, kept = await uploaded(rig, ann, plain_png()), await uploaded(rig, ann, plain_png())
    await rig.post(ann, "keep", media=[kept])
    knobs = MediaKnobs(unfinished_s=0.5, unattached_s=1.0, sweep_s=0.1)
    service = Media(rig.ports, Visibility(rig.ports.users, 2.0), 120, ExifTool())
    swept: list[str] = []

    class Watched(Collector):
        async def sweep(self) -> int:
            swept.append(self._holder)
            return await super().sweep()

    # The rig's own service may hold the lease for a minute and a half.
    await rig.ports.media._rows("UPDATE media_collector SET expires_at = 'epoch' RETURNING holder", (), "end the lead")
    tasks = [asyncio.create_task(Watched(rig.ports, service, knobs, name).run()) for name in ("media-a", "media-b")]
    try:
        async def gone() -> bool:
            return [await rig.ports.blobs.head(cdn_links.object_key(each)) for each in (started["id"], loose)] == [None, None]

        await until(gone)
    finally:
        for task in tasks:
            task.cancel()
    found = await rig.ports.media.get([started["id"], loose, kept])

    assert [found[each].state for each in (started["id"], loose, kept)] == [
        MediaState.CONDEMNED, MediaState.CONDEMNED, MediaState.ATTACHED]
    assert len(set(swept)) == 1
    assert (await rig.ask("POST", f"/2/media/upload/{started['id']}/finalize", ann))[0] == 404


async def test_a_link_is_valid_as_long_as_the_policy_says(rig):
    """`policies.media.link_s`: the response states it, and the edge enforces it."""
    (ann,) = await rig.people("ann")
    media_id = await uploaded(rig, ann, plain_png())
    config = replace(rig.config, policies=Policies(media=MediaKnobs(link_s=1)))
    async with services_rig.running(config, rig.ports, (media,), ()) as short:
        status, body, _ = await short.ask("GET", f"/2/media/{media_id}", ann)
        assert (status, body["data"]["expires_after_secs"]) == (200, 1)
        began = time.monotonic()
        while (await read(rig, body["data"]["url"]))[0] == 200:
            await asyncio.sleep(0.1)

    assert time.monotonic() - began < 4.0
