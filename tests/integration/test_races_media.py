"""Races around media (correctness point 17, and the orphans of uploads), on the real servers."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time

import aiohttp
import pytest

from scenarios.world import pictures
from system.kernel import cdn_links, ids
from system.kernel.errors import NotFound, StoreUnavailable
from system.kernel.policies import MediaKnobs
from system.ports import MediaState
from system.services.media import policy
from system.services.media.handlers import Media
from system.services.media.orphan_collector import Collector
from system.services.media.policy import Wanted
from system.services.media.stripping import ExifTool
from system.services.shared.visibility import Visibility
from system.services.tweets.policy import Draft
from tests.helpers.pictures import plain_png
from tests.helpers.races_bench import Bench, Swapped, held

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

NOW = MediaKnobs(unfinished_s=0.0, unattached_s=0.0)


def service(rig) -> Media:
    return Media(rig.ports, Visibility(rig.ports.users, 2.0), 120, ExifTool())


def collector(rig) -> Collector:
    return Collector(rig.ports, service(rig), NOW, "media-1")


async def put(media: Media, owner: int, data: bytes = b"", media_type: str = "image/png") -> str:
    data = data or plain_png()
    upload = await media.initialize(owner, Wanted(media_type, len(data), hashlib.sha256(data).hexdigest()), "")
    async with aiohttp.ClientSession() as web, web.put(upload.put.url, data=data, headers=dict(upload.put.headers)) as answer:
        assert answer.status == 200
    return upload.media_id


async def state(rig, media_id: str) -> MediaState:
    return (await rig.ports.media.get([media_id]))[media_id].state


async def test_a_finalize_that_the_collector_overtook_is_refused(rig):
    """The bytes were checked, then condemned: the row decides, and no removed picture is acknowledged."""
    (ann,) = await rig.people("ann")
    media = service(rig)
    media_id = await put(media, ann)

    with held("media.before_finalise", media_id=media_id) as point:
        task = asyncio.create_task(media.finalize(ann, media_id))
        await point.reached()
        await collector(rig).sweep()
        point.release()
        with pytest.raises(NotFound):
            await task

    assert await state(rig, media_id) is MediaState.CONDEMNED


async def test_a_post_that_died_after_it_attached_its_picture_leaves_no_orphan(rig):
    """Attached to a tweet that was never created: the collector looks for the tweet, and removes the picture."""
    (ann,) = await rig.people("ann")
    media = service(rig)
    media_id = (await media.finalize(ann, await put(media, ann))).id
    tweets = Bench(rig.config, rig.ports).tweets(7)

    with held("post.after_attach") as point:
        task = asyncio.create_task(tweets.post(ann, Draft("dies", None, (media_id,)), "", "", time.monotonic_ns() + 10**10))
        await point.reached()
        task.cancel()
        await asyncio.wait({task})
    assert await state(rig, media_id) is MediaState.ATTACHED
    await collector(rig).sweep()

    assert await state(rig, media_id) is MediaState.CONDEMNED
    assert await rig.ports.blobs.head(cdn_links.object_key(media_id)) is None


async def test_no_link_is_given_between_a_delete_and_the_removal_of_the_bytes(rig):
    """The row is condemned first: requests while bytes and cache still exist get nothing."""
    (ann,) = await rig.people("ann")
    media = service(rig)
    media_id = (await media.finalize(ann, await put(media, ann))).id

    with held("media.after_condemn", media_id=media_id) as point:
        task = asyncio.create_task(media.delete(ann, media_id))
        await point.reached()
        assert await rig.ports.blobs.head(cdn_links.object_key(media_id)) is not None
        with pytest.raises(NotFound):
            await media.show(ann, media_id)
        point.release()
        await task

    assert await rig.ports.blobs.head(cdn_links.object_key(media_id)) is None


async def test_a_picture_of_an_existing_tweet_is_confirmed_once_and_kept(rig):
    """The collector's ages do not apply to a picture in a tweet."""
    (ann,) = await rig.people("ann")
    media = service(rig)
    media_id = (await media.finalize(ann, await put(media, ann))).id
    tweet = await rig.post(ann, "stays", media=[media_id])

    for _ in range(2):
        await collector(rig).sweep()

    assert await state(rig, media_id) is MediaState.ATTACHED
    assert media_id not in [medium.id for medium in await rig.ports.media.unconfirmed(0.0, 100)]
    assert tweet > ids.floor_id(0)


async def test_an_older_attempt_that_fails_does_not_detach_the_picture_of_its_retry(rig):
    """Two attempts with one key make one tweet: once the second is acknowledged, the first must not undo anything."""
    (ann,) = await rig.people("ann")
    media = service(rig)
    media_id = (await media.finalize(ann, await put(media, ann))).id
    draft, key = Draft("one picture", None, (media_id,)), secrets.token_hex(8)
    bench = Bench(rig.config, rig.ports)

    async def refused(tweet, trace):
        raise StoreUnavailable("refused before anything was written", definite=True)

    slow = bench.tweets(7)
    slow._store = Swapped(rig.ports.tweets, append=refused)
    with held("post.before_append") as point:
        first = asyncio.create_task(slow.post(ann, draft, key, "", time.monotonic_ns() + 10**10))
        await point.reached()
        tweet = await bench.tweets(8).post(ann, draft, key, "", time.monotonic_ns() + 10**10)
        point.release()
        with pytest.raises(StoreUnavailable):
            await first

    assert (await rig.ports.media.get([media_id]))[media_id].tweet_id == tweet.id
    assert await state(rig, media_id) is MediaState.ATTACHED


async def test_a_finalize_during_its_put_drops_nothing(rig):
    """While the bytes are being uploaded it finds nothing or everything, never a picture without its first bytes."""
    (ann,) = await rig.people("ann")
    media, blobs = service(rig), rig.ports.blobs
    data = plain_png()
    upload = await media.initialize(ann, Wanted("image/png", len(data), hashlib.sha256(data).hexdigest()), "")

    async def put_before_head(key):
        async with aiohttp.ClientSession() as web, web.put(upload.put.url, data=data, headers=dict(upload.put.headers)) as answer:
            assert answer.status == 200
        return await blobs.head(key)

    async def read(key):
        data = await blobs.get(key)
        started.append((key, len(data)))
        return data

    started: list[tuple[str, int]] = []
    media._blobs = Swapped(blobs, head=put_before_head, get=read)

    assert (await media.finalize(ann, upload.media_id)).state is MediaState.FINALISED
    assert started == [(cdn_links.upload_key(upload.media_id), len(data))]


async def test_a_check_that_failed_does_not_undo_one_that_passed(rig):
    """One of two finalizes read from a node that had lost the bytes: the result of the other holds, for both."""
    (ann,) = await rig.people("ann")
    media, sick = service(rig), service(rig)
    media_id = await put(media, ann)

    async def lost(key):
        return b""

    sick._blobs = Swapped(rig.ports.blobs, get=lost)
    with held("media.after_head", media_id=media_id) as point:
        task = asyncio.create_task(sick.finalize(ann, media_id))
        await point.reached()
        done = await media.finalize(ann, media_id)
        point.release()
        assert await task == done

    assert await state(rig, media_id) is MediaState.FINALISED


async def test_a_post_that_is_retried_while_the_collector_runs_keeps_its_picture(rig):
    """The first attempt was refused, its picture is unconfirmed; the retry attaches it after the search for its tweet."""
    (ann,) = await rig.people("ann")
    media, bench, key = service(rig), Bench(rig.config, rig.ports), secrets.token_hex(8)
    media_id = (await media.finalize(ann, await put(media, ann))).id
    draft = Draft("again", None, (media_id,))

    async def refused(tweet, trace):
        raise StoreUnavailable("refused before anything was written", definite=True)

    sick = bench.tweets(7)
    sick._store = Swapped(rig.ports.tweets, append=refused)
    with pytest.raises(StoreUnavailable):
        await sick.post(ann, draft, key, "", time.monotonic_ns() + 10**10)
    await asyncio.sleep(0.3)
    sweeper = Collector(rig.ports, media, MediaKnobs(unfinished_s=0.2, unattached_s=60.0), "media-1")
    with held("media.before_orphans") as point:
        sweep = asyncio.create_task(sweeper.sweep())
        await point.reached()
        tweet = await bench.tweets(8).post(ann, draft, key, "", time.monotonic_ns() + 10**10)
        point.release()
        await sweep

    standing = (await rig.ports.media.get([media_id]))[media_id]
    assert (standing.state, standing.tweet_id) == (MediaState.ATTACHED, tweet.id)


@pytest.mark.parametrize("step", ["media.after_head", "media.after_strip", "media.before_finalise", "media.after_finalise"])
async def test_a_finalize_that_dies_at_any_step_can_be_repeated(rig, step):
    """The repeat ends like the first try would have: the row is switched, the served object has no metadata.

    And no uploaded byte is left.
    """
    (ann,) = await rig.people("ann")
    media, picture = service(rig), pictures.draw(time.monotonic_ns(), 1)
    media_id = await put(media, ann, picture.data, picture.media_type)
    with held(step) as point:
        task = asyncio.create_task(media.finalize(ann, media_id))
        await point.reached()
        task.cancel()
        await asyncio.wait({task})
    served_early = await state(rig, media_id) is MediaState.FINALISED

    done = await media.finalize(ann, media_id)

    assert served_early is (step == "media.after_finalise")
    served = await rig.ports.blobs.get(cdn_links.object_key(media_id))
    assert (done.state, done.sha256, done.served_size) == (
        MediaState.FINALISED, hashlib.sha256(served).hexdigest(), len(served))
    assert pictures.canaries_in(served) == 0 and pictures.look(served) == pictures.look(picture.data)
    assert (await rig.ports.blobs.get(cdn_links.upload_key(media_id))) == b""


async def test_uploaded_bytes_of_a_finalize_that_died_and_was_not_repeated_are_collected(rig, monkeypatch):
    """After the row was switched nobody else would remove them."""
    monkeypatch.setattr(policy, "ORIGINAL_S", 0.0)
    (ann,) = await rig.people("ann")
    media, data = service(rig), plain_png()
    media_id = await put(media, ann, data)
    with held("media.after_finalise", media_id=media_id) as point:
        task = asyncio.create_task(media.finalize(ann, media_id))
        await point.reached()
        task.cancel()
        await asyncio.wait({task})
    assert await rig.ports.blobs.get(cdn_links.upload_key(media_id)) == data

    await Collector(rig.ports, media, MediaKnobs(unfinished_s=60.0, unattached_s=60.0), "media-1").sweep()

    assert await rig.ports.blobs.head(cdn_links.upload_key(media_id)) is None
    assert await rig.ports.blobs.get(cdn_links.object_key(media_id)) == data


async def test_of_two_concurrent_finalizes_both_succeed(rig):
    """The slower one finds no uploaded bytes any more; the row says that the other has checked them."""
    (ann,) = await rig.people("ann")
    media, slow = service(rig), service(rig)
    media_id = await put(media, ann)
    with held("media.after_head", media_id=media_id) as point:
        task = asyncio.create_task(slow.finalize(ann, media_id))
        await point.reached()
        done = await media.finalize(ann, media_id)
        point.release()
        late = await task

    assert late == done and done.state is MediaState.FINALISED
