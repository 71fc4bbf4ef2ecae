"""The media service on memory adapters: uploads by real HTTP to the memory store, links, collection."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib

import aiohttp
import pytest

from system import bootstrap
from system.kernel import cdn_links, clock, ids
from system.kernel.errors import Conflict, Forbidden, NotFound, StoreUnavailable, WrongInput
from system.kernel.events import Tweet, tweet_deleted
from system.kernel.policies import MediaKnobs
from system.ports import MediaState, Record
from system.services.media import orphan_collector
from system.services.media.handlers import Media
from system.services.media.orphan_collector import Collector, EdgeCounter
from system.services.media.policy import LONGEST_PUT_S, Wanted
from system.services.shared.media_includes import MediaIncludes
from system.services.shared.visibility import Visibility
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.media import MemoryEdge, MemoryMedia
from tests.fakes.tweets import MemoryTweets
from tests.fakes.users import MemoryUsers

PNG = b"\x89PNG\r\n\x1a\n" + b"walrus"
SHA = hashlib.sha256(PNG).hexdigest()
WISH = Wanted("image/png", len(PNG), SHA)


class Rig:
    """The service, its stores and a clock that the test turns."""

    def __init__(self, blobs: MemoryBlobs) -> None:
        self.now_s = 1_000.0
        self.store, self.edge, self.blobs = MemoryMedia(lambda: self.now_s), MemoryEdge(), blobs
        self.tweets, self.users = MemoryTweets(), MemoryUsers()
        ports = bootstrap.ports_of({"media": self.store, "edge": self.edge, "blobs": blobs, "tweets": self.tweets,
                                    "users": self.users})
        self.media = Media(ports, Visibility(self.users, 2.0), 120)
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
        found = (await self.store.get([media_id])).get(media_id)
        return found.state if found else None


async def no_burial(record, reason):
    raise AssertionError(reason)


@contextlib.asynccontextmanager
async def rig():
    async with MemoryBlobs() as blobs:
        yield Rig(blobs)


async def test_what_was_checked_stays_though_the_upload_url_still_holds():
    """The URL takes the declared bytes, once: no copy is needed to keep what finalize saw."""
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
    """The digest that is kept is of what storage holds."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, Wanted("image/png", len(PNG)), "")
        await lab.put(upload)

        assert (await lab.media.finalize(7, upload.media_id)).sha256 == SHA


async def test_bytes_that_are_no_picture_are_dropped_for_good():
    """They cannot be fixed, the URL takes one PUT: 400, and the medium is condemned."""
    html = b"<html><script>alert(1)</script>"
    async with rig() as lab:
        upload = await lab.media.initialize(7, Wanted("image/png", len(html)), "")
        await lab.put(upload, html)

        with pytest.raises(WrongInput, match="3c 68 74 6d"):
            await lab.media.finalize(7, upload.media_id)
        with pytest.raises(NotFound):
            await lab.media.finalize(7, upload.media_id)
        assert await lab.state(upload.media_id) is MediaState.CONDEMNED


async def test_finalize_is_the_owners_and_wants_bytes():
    """403 for another, 404 while nothing was put, or where the id is nobody's."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, WISH, "")

        with pytest.raises(Forbidden):
            await lab.media.finalize(8, upload.media_id)
        with pytest.raises(NotFound, match="PUT the bytes"):
            await lab.media.finalize(7, upload.media_id)
        with pytest.raises(NotFound):
            await lab.media.finalize(7, "7_99")


async def test_one_key_is_one_upload():
    """A repeat gets the same medium; another picture under the same key is refused with 422."""
    async with rig() as lab:
        first, again = await lab.media.initialize(7, WISH, "k"), await lab.media.initialize(7, WISH, "k")
        with pytest.raises(Conflict) as refused:
            await lab.media.initialize(7, Wanted("image/gif", 9), "k")

        assert first.media_id == again.media_id
        assert refused.value.status == 422


async def test_a_link_is_given_to_whoever_may_read_the_tweet_and_to_nobody_else():
    """Unattached: the owner alone. Attached: the readers of its author. Condemned: nobody. Each refusal looks the same."""
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


async def test_orphans_are_condemned_by_their_age_and_what_is_used_stays():
    """Initialised after 100 s, finalised after 1,000 s; attached never. The bytes go, then the cache, at last the row."""
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


async def test_bytes_that_a_living_url_brought_back_are_removed_again():
    """After a delete the URL may put once more; the second sweep comes when it no longer holds."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, WISH, "")
        await lab.put(upload)
        await lab.media.finalize(7, upload.media_id)
        await lab.media.delete(7, upload.media_id)
        await lab.collector.sweep()
        assert await lab.put(upload) == 200

        lab.now_s += 961
        await lab.collector.sweep()
        assert await lab.blobs.head(cdn_links.object_key(upload.media_id)) is None
        assert await lab.state(upload.media_id) is MediaState.CONDEMNED


async def test_bytes_that_a_slow_put_brought_back_are_removed_too():
    """It began under a URL that held and took an hour: the row outlives it, so somebody still looks."""
    async with rig() as lab:
        upload = await lab.media.initialize(7, WISH, "")
        await lab.media.delete(7, upload.media_id)
        await lab.collector.sweep()
        lab.now_s += 961
        await lab.collector.sweep()
        assert await lab.put(upload) == 200

        lab.now_s += LONGEST_PUT_S + 1
        await lab.collector.sweep()
        assert await lab.blobs.head(cdn_links.object_key(upload.media_id)) is None
        assert await lab.state(upload.media_id) is None


async def test_a_post_that_died_after_it_took_its_picture_leaves_an_orphan():
    """Attached, but no such tweet exists: collected. Where the tweet exists it is looked for once."""
    async with rig() as lab:
        lost, kept = await lab.finished(), await lab.finished()
        await lab.store.attach(7, [lost], ids.compose(clock.SystemClock().wall_ms(), 9, 9))
        await lab.tweet(kept)

        lab.now_s += 101
        await lab.collector.sweep()

        assert [await lab.state(each) for each in (lost, kept)] == [MediaState.CONDEMNED, MediaState.ATTACHED]
        assert await lab.store.unconfirmed(0.0, 10) == []


async def test_the_event_of_a_delete_is_a_hint_and_the_tweet_decides():
    """A tweet that stands keeps its pictures, whatever an event says; a deleted one loses them from storage and cache."""
    async with rig() as lab:
        media_id = await lab.finished()
        tweet = await lab.tweet(media_id)
        record = Record("tweet_deleted", 0, 0, tweet_deleted(tweet.id, 7), "")

        await lab.collector.deleted([record], no_burial)
        assert await lab.state(media_id) is MediaState.ATTACHED
        await lab.tweets.delete(tweet.id, 7)
        await lab.collector.deleted([record], no_burial)

        assert await lab.state(media_id) is MediaState.CONDEMNED
        assert lab.edge.purged == [cdn_links.object_key(media_id)]
        assert await lab.blobs.head(cdn_links.object_key(media_id)) is None


async def test_an_edge_that_is_away_is_asked_again():
    """The row stays due until bytes and cache are both gone."""
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
    """The last word of a syslog line is nginx' cache status."""
    told = []
    monkeypatch.setattr("system.kernel.telemetry.metrics.count", lambda name, **labels: told.append((name, labels["result"])))

    for line in (b"<190>Nov 22 21:00:00 cdn: HIT", b"<190>Nov 22 21:00:00 cdn: MISS", b"\xff\xfe"):
        EdgeCounter().datagram_received(line, None)

    assert told == [("tweetlab_cache_requests_total", result) for result in ("hit", "miss", "miss")]


async def test_pictures_of_readable_tweets_are_included_where_they_are_asked_for():
    """`expansions=attachments.media_keys`: one entry a picture with a link; deleted ones and other expansions add nothing."""
    async with rig() as lab:
        kept, gone = await lab.finished(), await lab.finished()
        tweets = [await lab.tweet(kept), await lab.tweet(gone)]
        await lab.store.condemn([gone])
        pictures = MediaIncludes(bootstrap.ports_of({"media": lab.store, "edge": lab.edge}), 120)
        body, other = {"data": []}, {"data": []}

        await pictures.include(body, {"expansions": "author_id,attachments.media_keys"}, tweets)
        await pictures.include(other, {"expansions": "author_id"}, tweets)

        (shown,) = body["includes"]["media"]
        assert (shown["media_key"], shown["type"]) == (kept, "photo") and cdn_links.object_key(kept) in shown["url"]
        assert other == {"data": []}


async def test_a_deleted_event_without_a_tweet_goes_to_the_dead_letters_and_the_others_are_handled():
    """As liker and indexer do: nothing is dropped in silence."""
    async with rig() as lab:
        media_id = await lab.finished()
        tweet = await lab.tweet(media_id)
        await lab.tweets.delete(tweet.id, tweet.author_id)
        good, bad, buried = tweet_deleted(tweet.id, 7), [], []
        for named in ("walrus", True, None):
            event = dataclasses.replace(good, payload={**good.payload, "id": named})
            bad.append(Record("tweet_deleted", 0, 1, event, b""))

        async def bury(record, reason):
            buried.append((record, reason))

        await lab.collector.deleted([*bad, Record("tweet_deleted", 0, 2, good, b"")], bury)

        assert [record for record, _ in buried] == bad and "walrus" in buried[0][1]
        assert await lab.state(media_id) is MediaState.CONDEMNED


async def test_a_sweep_goes_on_until_nothing_is_left(monkeypatch):
    """A backlog of many batches needs no pause between them; storage that is away ends the sweep after one batch."""
    monkeypatch.setattr(orphan_collector, "AT_ONCE", 2)
    async with rig() as lab:
        for _ in range(7):
            await lab.media.initialize(7, WISH, "")
        lab.now_s += 101.0

        assert await lab.collector.sweep() == 7
        assert await lab.store.due(10) == []
