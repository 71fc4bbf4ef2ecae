"""The media service on memory adapters: uploads by real HTTP to the memory store, links, orphan cleanup."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib

import aiohttp
import pytest

from system import bootstrap
from system.kernel import cdn_links, clock, ids
from system.kernel.errors import Conflict, Forbidden, NotFound, Overloaded, StoreUnavailable, WrongInput
from system.kernel.events import Tweet, tweet_deleted
from system.kernel.http.asgi import Spent
from system.kernel.policies import MediaKnobs, Policies
from system.ports import MediaState, Record
from system.services.media import handlers, orphan_collector
from system.services.media.handlers import Media
from system.services.media.orphan_collector import Collector, EdgeCounter
from system.services.media.policy import LONGEST_PUT_S, Wanted
from system.services.shared.bodies import view_of
from system.services.shared.reads import Reads
from system.services.shared.visibility import Visibility
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.media import MemoryEdge, MemoryMedia
from tests.fakes.timelines import MemoryHotTweets
from tests.fakes.tweets import MemoryTweets
from tests.fakes.users import MemoryUsers
from tests.helpers.pictures import PlainStripper

PNG = b"\x89PNG\r\n\x1a\n" + b"walrus"
SHA = hashlib.sha256(PNG).hexdigest()
WISH = Wanted("image/png", len(PNG), SHA)


class Rig:
    """The service, its stores and a clock that the test sets."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self.now_s = 1_000.0
        self.store, self.edge, self.blobs = MemoryMedia(lambda: self.now_s), MemoryEdge(), blobs
        self.tweets, self.users = MemoryTweets(), MemoryUsers()
        ports = bootstrap.ports_of({"media": self.store, "edge": self.edge, "blobs": blobs, "tweets": self.tweets,
                                    "users": self.users})
        self.media = Media(ports, Visibility(self.users, 2.0), 120, PlainStripper())
        knobs = MediaKnobs(unfinished_s=100.0, unattached_s=1_000.0)
        self.collector = Collector(ports, self.media, knobs, "media-1")

    async def put(self, upload, data=PNG) -> int:
        async with aiohttp.ClientSession() as web, web.put(upload.put.url, data=data, headers=dict(upload.put.headers)) as reply:
            return reply.status

    async def finished(self, owner: int = 7) -> str:
        upload = await self.media.initialize(owner, WISH, "")
        assert await self.put(upload) == 200
        return (await self.media.finalize(owner, upload.media_id)).id

    async def tweet(self, media_id: str, owner: int = 7) -> Tweet:
        tweet_id = ids.compose(clock.SystemClock().wall_ms(), 1, len(self.edge.purged))
        assert await self.store.attach(owner, [media_id], tweet_id) == []
        tweet = Tweet(tweet_id, owner, "", ids.ms_of(tweet_id), tweet_id, media_keys=(media_id,))
        await self.tweets.append(tweet)
        return tweet

    async def state(self, media_id: str) -> MediaState | None:
        medium = (await self.store.get([media_id])).get(media_id)
        return medium.state if medium else None


async def no_dead_letter(record, reason):
    raise AssertionError(reason)


@contextlib.asynccontextmanager
async def rig():
    async with MemoryBlobs() as blobs:
        yield Rig(blobs)


async def test_checked_bytes_stay_while_the_upload_url_is_still_valid():
    """The URL accepts the declared bytes, once: no copy is needed to keep what finalize checked."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, WISH, "")
        assert [await lab.put(upload, PNG[:-1] + b"X"), await lab.put(upload, PNG + b"!")] == [400, 403]
        assert await lab.put(upload) == 200
        done = await lab.media.finalize(7, upload.media_id)

        assert (done.state, done.sha256, done.size) == (MediaState.FINALISED, SHA, len(PNG))
        assert await lab.put(upload) == 412
        assert await lab.blobs.get(cdn_links.object_key(upload.media_id)) == PNG
        assert await lab.media.finalize(7, upload.media_id) == done


async def test_bytes_without_a_declared_digest_are_read_back_once():
    """The stored digest is that of the stored bytes."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, Wanted("image/png", len(PNG)), "")
        await lab.put(upload)

        assert (await lab.media.finalize(7, upload.media_id)).sha256 == SHA


async def test_bytes_that_are_not_a_picture_are_dropped_for_good():
    """They cannot be fixed, as the URL accepts one PUT: 400, and the medium is condemned."""
    html = b"<html><script>alert(1)</script>"
    async with rig() as lab:
        upload = await lab.media.initialize(7, Wanted("image/png", len(html)), "")
        await lab.put(upload, html)

        with pytest.raises(WrongInput, match="3c 68 74 6d"):
            await lab.media.finalize(7, upload.media_id)
        with pytest.raises(NotFound):
            await lab.media.finalize(7, upload.media_id)
        assert await lab.state(upload.media_id) is MediaState.CONDEMNED


async def test_only_the_owner_can_finalize_and_only_after_the_upload():
    """403 for another user, 404 before the PUT and for an unknown id."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, WISH, "")

        with pytest.raises(Forbidden):
            await lab.media.finalize(8, upload.media_id)
        with pytest.raises(NotFound, match="PUT them"):
            await lab.media.finalize(7, upload.media_id)
        with pytest.raises(NotFound):
            await lab.media.finalize(7, "7_99")


async def test_one_key_is_one_upload():
    """A repeat returns the same medium; another picture under the same key is refused with 422."""
    async with rig() as lab:
        first, again = await lab.media.initialize(7, WISH, "k"), await lab.media.initialize(7, WISH, "k")
        with pytest.raises(Conflict) as refused:
            await lab.media.initialize(7, Wanted("image/gif", 9), "k")

        assert first.media_id == again.media_id
        assert refused.value.status == 422


async def test_only_users_that_may_read_the_tweet_get_a_link():
    """Unattached: the owner only.

    Attached: the readers of its author. Condemned: nobody. All refusals look the same.
    """
    async with rig() as lab:
        ann, bob = [(await lab.users.create(name, name, "")).id for name in ("ann", "bob")]
        media_id = await lab.finished(ann)
        assert cdn_links.object_key(media_id) in (await lab.media.show(ann, media_id))[1]
        with pytest.raises(NotFound) as hidden:
            await lab.media.show(bob, media_id)
        await lab.tweet(media_id, ann)
        assert (await lab.media.show(bob, media_id))[0].state is MediaState.ATTACHED
        await lab.media.delete(ann, media_id)

        for viewer in (ann, bob):
            with pytest.raises(NotFound) as gone:
                await lab.media.show(viewer, media_id)
            assert gone.value.detail == hidden.value.detail


async def test_orphans_are_condemned_by_their_age_and_used_media_stay():
    """Initialised after 100 s, finalised after 1,000 s; attached never.

    First the bytes are removed, then the cache, then the row.
    """
    async with rig() as lab:
        started = (await lab.media.initialize(7, WISH, "")).media_id
        kept, loose = await lab.finished(), await lab.finished()
        await lab.tweet(kept)

        lab.now_s += 101
        await lab.collector.sweep()
        assert [await lab.state(each) for each in (started, loose, kept)] == ["condemned", "finalised", "attached"]
        lab.now_s += 900
        await lab.collector.sweep()
        assert await lab.state(loose) is MediaState.CONDEMNED
        assert lab.edge.purged == [cdn_links.object_key(started), cdn_links.object_key(loose)]
        assert await lab.blobs.head(cdn_links.object_key(loose)) is None
        lab.now_s += 1_000
        await lab.collector.sweep()
        assert [await lab.state(each) for each in (started, loose, kept)] == ["condemned", "condemned", "attached"]
        lab.now_s += LONGEST_PUT_S + 1
        await lab.collector.sweep()
        assert [await lab.state(each) for each in (started, loose, kept)] == [None, None, "attached"]
        assert await lab.blobs.get(cdn_links.object_key(kept)) == PNG


async def test_bytes_restored_under_a_valid_url_are_removed_again():
    """After a delete the URL may be used once more; the second removal runs when it is no longer valid."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, WISH, "")
        await lab.put(upload)
        await lab.media.finalize(7, upload.media_id)
        await lab.media.delete(7, upload.media_id)
        await lab.collector.sweep()
        assert await lab.put(upload) == 200

        lab.now_s += 961
        await lab.collector.sweep()
        assert await lab.blobs.head(cdn_links.upload_key(upload.media_id)) is None
        assert await lab.state(upload.media_id) is MediaState.CONDEMNED


async def test_bytes_restored_by_a_slow_put_are_removed_too():
    """It started under a valid URL and took an hour: the row outlives it, so there is still a removal."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, WISH, "")
        await lab.media.delete(7, upload.media_id)
        await lab.collector.sweep()
        lab.now_s += 961
        await lab.collector.sweep()
        assert await lab.put(upload) == 200

        lab.now_s += LONGEST_PUT_S + 1
        await lab.collector.sweep()
        assert await lab.blobs.head(cdn_links.upload_key(upload.media_id)) is None
        assert await lab.state(upload.media_id) is None


async def test_the_uploaded_bytes_of_a_finalized_picture_are_emptied_and_later_removed():
    """Empty while its URL is valid, so that a second PUT is refused; removed when it has expired, and after a day."""
    async with rig() as lab:
        media_id = await lab.finished()
        await lab.tweet(media_id)
        upload = cdn_links.upload_key(media_id)
        assert await lab.blobs.get(upload) == b""

        for wait_s in (961, LONGEST_PUT_S + 1):
            lab.now_s += wait_s
            await lab.collector.sweep()
            assert await lab.blobs.head(upload) is None
            await lab.blobs.put(upload, b"late", "image/png")
        lab.now_s += 10 * LONGEST_PUT_S
        await lab.collector.sweep()

        assert await lab.blobs.get(upload) == b"late"  # no PUT can arrive as late as that
        assert await lab.blobs.get(cdn_links.object_key(media_id)) == PNG


async def test_uploads_beyond_the_memory_of_the_service_are_refused_before_any_work(monkeypatch):
    """503, definite: the upload stays."""
    monkeypatch.setattr(handlers, "WAITING", 0)
    async with rig() as lab:
        upload = await lab.media.initialize(7, WISH, "")
        await lab.put(upload)
        with pytest.raises(Overloaded) as refused:
            await lab.media.finalize(7, upload.media_id)

        assert refused.value.definite
        assert await lab.state(upload.media_id) is MediaState.INITIALISED


async def test_a_post_that_failed_after_attaching_its_picture_leaves_an_orphan():
    """Attached, but the tweet does not exist: collected. An existing tweet is checked once."""
    async with rig() as lab:
        lost, kept = await lab.finished(), await lab.finished()
        await lab.store.attach(7, [lost], ids.compose(clock.SystemClock().wall_ms(), 9, 9))
        await lab.tweet(kept)

        lab.now_s += 101
        await lab.collector.sweep()

        assert [await lab.state(each) for each in (lost, kept)] == [MediaState.CONDEMNED, MediaState.ATTACHED]
        assert await lab.store.unconfirmed(0.0, 10) == []


async def test_the_event_of_a_delete_is_a_hint_and_the_tweet_decides():
    """An existing tweet keeps its pictures, whatever an event says.

    A deleted one loses them from storage and cache.
    """
    async with rig() as lab:
        media_id = await lab.finished()
        tweet = await lab.tweet(media_id)
        record = Record("tweet_deleted", 0, 0, tweet_deleted(tweet.id, 7), "")

        await lab.collector.deleted([record], no_dead_letter)
        assert await lab.state(media_id) is MediaState.ATTACHED
        await lab.tweets.delete(tweet.id, 7)
        await lab.collector.deleted([record], no_dead_letter)

        assert await lab.state(media_id) is MediaState.CONDEMNED
        assert lab.edge.purged == [cdn_links.object_key(media_id)]
        assert await lab.blobs.head(cdn_links.object_key(media_id)) is None


async def test_a_purge_is_retried_while_the_edge_is_away():
    """The row stays due until both bytes and cache are cleared."""
    async with rig() as lab:
        media_id = await lab.finished()

        async def away(key: str) -> None:
            raise StoreUnavailable("the edge is away")

        forget, lab.edge.purge = lab.edge.purge, away
        await lab.media.delete(7, media_id)
        await lab.collector.sweep()
        assert [medium.sweeps for medium in await lab.store.due(10)] == [0]
        lab.edge.purge = forget
        await lab.collector.sweep()

        assert lab.edge.purged == [cdn_links.object_key(media_id)]
        assert await lab.store.due(10) == []


def test_a_datagram_of_the_edge_counts_one_look_up(monkeypatch):
    """The last word of a syslog line is nginx's cache status."""
    counted = []
    monkeypatch.setattr("system.kernel.telemetry.metrics.count", lambda name, **labels: counted.append((name, labels["result"])))

    for line in (b"<190>Nov 22 21:00:00 cdn: HIT", b"<190>Nov 22 21:00:00 cdn: MISS", b"\xff\xfe"):
        EdgeCounter().datagram_received(line, None)

    assert counted == [("tweetlab_cache_requests_total", result) for result in ("hit", "miss", "miss")]


async def test_pictures_of_readable_tweets_are_included_if_requested():
    """`expansions=attachments.media_keys`: one entry per picture with a link.

    Deleted ones and other expansions add nothing; `media.fields` chooses what an entry has.
    """
    async with rig() as lab:
        kept, deleted = await lab.finished(), await lab.finished()
        tweets = [await lab.tweet(kept), await lab.tweet(deleted)]
        await lab.store.condemn([deleted])
        ports = bootstrap.ports_of({"media": lab.store, "edge": lab.edge, "users": lab.users, "tweets": lab.tweets,
                                    "hot": MemoryHotTweets()})
        bodies = Reads(ports, Policies()).bodies

        async def included(**query):
            view = view_of({name.replace("_", "."): value for name, value in query.items()})
            return (await bodies.many(7, view, tweets, Spent())).get("includes")

        (shown,) = (await included(expansions="author_id,attachments.media_keys"))["media"]
        assert (shown["media_key"], shown["type"]) == (kept, "photo") and cdn_links.object_key(kept) in shown["url"]
        assert await included(expansions="author_id") is None
        assert await included(expansions="attachments.media_keys", media_fields="type") == {
            "media": [{"media_key": kept, "type": "photo"}]}


async def test_a_delete_event_without_a_tweet_is_dead_lettered_and_the_others_are_handled():
    """As in the liker and the indexer: nothing is dropped silently."""
    async with rig() as lab:
        media_id = await lab.finished()
        tweet = await lab.tweet(media_id)
        await lab.tweets.delete(tweet.id, tweet.author_id)
        good, bad, buried = tweet_deleted(tweet.id, 7), [], []
        for named in ("walrus", True, None):
            event = dataclasses.replace(good, payload={**good.payload, "id": named})
            bad.append(Record("tweet_deleted", 0, 1, event, b""))

        async def dead_letter(record, reason):
            buried.append((record, reason))

        await lab.collector.deleted([*bad, Record("tweet_deleted", 0, 2, good, b"")], dead_letter)

        assert [record for record, _ in buried] == bad and "walrus" in buried[0][1]
        assert await lab.state(media_id) is MediaState.CONDEMNED


async def test_a_sweep_continues_until_nothing_is_left(monkeypatch):
    """A backlog of many batches needs no pause between them.

    Storage that is away ends the sweep after one batch.
    """
    monkeypatch.setattr(orphan_collector, "AT_ONCE", 2)
    async with rig() as lab:
        for _ in range(7):
            await lab.media.initialize(7, WISH, "")
        lab.now_s += 101.0

        assert await lab.collector.sweep() == 7
        assert await lab.store.due(10) == []
