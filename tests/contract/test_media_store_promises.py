"""What every media store promises: in memory, and on PostgreSQL."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

import asyncio
import itertools

import pytest

from system import bootstrap
from system.kernel.errors import Conflict
from system.ports import MediaState, Medium
from system.services.media.handlers import Media
from system.services.media.policy import Wanted
from system.services.shared.visibility import Visibility
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.media import MemoryEdge
from tests.fakes.users import MemoryUsers
from tests.helpers.durable_stores import durable_settings, media, real_media

SHA = "ab" * 32
_numbers = itertools.count(1)


async def a_medium(media, owner=7, state=MediaState.INITIALISED):
    medium = Medium(f"{owner}_{next(_numbers)}", owner, "image/png", 8, SHA)
    await media.initialise(medium)
    if state is not MediaState.INITIALISED:
        await media.finalise(medium.id, SHA)
    return medium.id


async def state(media, media_id):
    return (await media.get([media_id]))[media_id].state


async def test_what_was_initialised_first_stands(media):
    """A repeat under the same id gets the first, whatever it asks for."""
    first = Medium("7_1000", 7, "image/png", 8)

    assert await media.initialise(first) == first
    assert await media.initialise(Medium("7_1000", 7, "image/gif", 9)) == first
    assert await media.get(["7_1000", "7_0"]) == {"7_1000": first}


async def test_a_state_only_moves_forward(media):
    """initialised, finalised, attached, condemned; a finalize after a condemn finds nothing."""
    media_id = await a_medium(media)

    assert (await media.finalise(media_id, SHA)).state is MediaState.FINALISED
    assert await media.attach(7, [media_id], 55) == []
    assert (await media.finalise(media_id, SHA)).state is MediaState.ATTACHED
    assert [(each.id, each.tweet_id) for each in await media.condemn([media_id])] == [(media_id, 55)]
    assert await media.condemn([media_id]) == []
    assert await media.finalise(media_id, SHA) is None
    assert await media.finalise("7_0", SHA) is None


async def test_a_tweet_takes_all_its_media_or_none(media):
    """Not another's, not an unchecked one, not one that another tweet has; a repeat of the same tweet is fine."""
    good, loose = await a_medium(media, state=MediaState.FINALISED), await a_medium(media)
    others, taken = await a_medium(media, 8, MediaState.FINALISED), await a_medium(media, state=MediaState.FINALISED)
    assert await media.attach(7, [taken], 54) == []

    assert await media.attach(7, [good, loose, others, taken, "7_0"], 55) == [loose, others, taken, "7_0"]
    assert await state(media, good) is MediaState.FINALISED
    assert await media.attach(7, [good], 55) == await media.attach(7, [good], 55) == []
    assert [medium.id for medium in await media.of_tweets([55, 56])] == [good]


async def test_of_two_tweets_that_race_for_a_picture_one_gets_it(media):
    """Each sees what the other did."""
    media_id = await a_medium(media, state=MediaState.FINALISED)

    answers = await asyncio.gather(*(media.attach(7, [media_id], tweet) for tweet in range(100, 108)))

    assert sum(answer == [] for answer in answers) == 1


async def test_a_detached_medium_is_free_again(media):
    """Of that tweet only, and not once the tweet was seen."""
    media_id = await a_medium(media, state=MediaState.FINALISED)
    await media.attach(7, [media_id], 55)
    await media.detach([media_id], 56)
    assert await state(media, media_id) is MediaState.ATTACHED
    await media.detach([media_id], 55)
    assert await media.attach(7, [media_id], 57) == []
    await media.confirm([media_id])
    await media.detach([media_id], 57)

    assert await state(media, media_id) is MediaState.ATTACHED


async def test_orphans_are_told_by_their_age_and_state(media):
    """Initialised and finalised have an age of their own; attached and condemned are none."""
    started, loose = await a_medium(media), await a_medium(media, state=MediaState.FINALISED)
    kept = await a_medium(media, state=MediaState.FINALISED)
    await media.attach(7, [kept], 55)
    await asyncio.sleep(0.02)

    assert await media.condemn_orphans(60, 60, 10) == []
    assert [each.id for each in await media.condemn_orphans(0.01, 60, 10)] == [started]
    assert [each.id for each in await media.condemn_orphans(0.01, 0.01, 10)] == [loose]
    assert await state(media, kept) is MediaState.ATTACHED


async def test_attached_media_are_looked_for_until_their_tweet_was_seen(media):
    """By age; once confirmed never again."""
    media_id = await a_medium(media, state=MediaState.FINALISED)
    await media.attach(7, [media_id], 55)
    await asyncio.sleep(0.02)

    assert await media.unconfirmed(60, 10) == []
    assert [each.id for each in await media.unconfirmed(0.01, 10)] == [media_id]
    await media.confirm([media_id])
    assert await media.unconfirmed(0.01, 10) == []


async def test_a_medium_is_condemned_only_where_it_was_thought_to_stand(media):
    """Of a check that failed and one that passed, the second wins when it is there first."""
    media_id = await a_medium(media)
    await media.finalise(media_id, SHA)

    assert await media.condemn([media_id], MediaState.INITIALISED) == []
    assert (await media.get([media_id]))[media_id].state is MediaState.FINALISED
    assert [each.id for each in await media.condemn([media_id], MediaState.FINALISED)] == [media_id]


async def test_a_condemned_medium_is_due_as_often_as_asked_and_then_forgotten(media):
    """At once, and again after each time that was asked for; who notes it twice, or before it is due, changes nothing."""
    media_id = await a_medium(media)
    await media.finalise(media_id, SHA)
    await media.attach(7, [media_id], 77)
    await media.condemn([media_id])

    assert [each.id for each in await media.due(10)] == [each.id for each in await media.of_tweets([77])] == [media_id]
    (first,) = await media.due(10)
    await media.swept(first, 0.05)
    assert await media.of_tweets([77]) == []
    assert await media.due(10) == []
    once = (await media.get([media_id]))[media_id]
    for told in (first, once):
        await media.swept(told, 0.05)
        await media.swept(told, None)
    assert (await media.get([media_id]))[media_id] == once and once.sweeps == 1
    await asyncio.sleep(0.08)
    await media.swept(once, 0.0)
    (twice,) = await media.due(10)
    assert twice.sweeps == 2
    await media.swept(twice, None)

    assert await media.get([media_id]) == {}


async def test_one_collector_leads_until_its_lease_ends(media):
    """The holder renews; another waits for the end."""
    assert await media.lead("media-1", 0.1)
    assert not await media.lead("media-2", 0.1)
    assert await media.lead("media-1", 0.1)
    await asyncio.sleep(0.15)

    assert await media.lead("media-2", 0.1)
    assert not await media.lead("media-1", 0.1)


@pytest.mark.real
async def test_a_finalize_and_a_collector_that_race_agree(real_media):
    """Either the owner keeps his picture, or he hears that it is gone: never both."""
    ids = [await a_medium(real_media) for _ in range(20)]

    async def finalise(media_id):
        return await real_media.finalise(media_id, SHA)

    done, condemned = await asyncio.gather(
        asyncio.gather(*map(finalise, ids)), asyncio.gather(*(real_media.condemn_orphans(0, 3600, 5) for _ in range(4))))
    kept = {each.id for each in done if each is not None}
    gone = {each.id for part in condemned for each in part}

    assert kept | gone == set(ids) and not kept & gone


def service(media, blobs):
    users = MemoryUsers()
    ports = bootstrap.ports_of({"media": media, "edge": MemoryEdge(), "blobs": blobs, "users": users})
    return Media(ports, Visibility(users, 2.0), 120)


async def test_no_upload_url_is_given_for_a_condemned_medium(media):
    """It would outlive the row. The key is refused as long as the row stands; another key gets a place."""
    async with MemoryBlobs() as blobs:
        uploads = service(media, blobs)
        wish, key = Wanted("image/png", 8, SHA), f"key-{next(_numbers)}"
        upload = await uploads.initialize(7, wish, key)
        await media.condemn([upload.media_id])

        with pytest.raises(Conflict, match="use a new key") as refused:
            await uploads.initialize(7, wish, key)

        assert refused.value.status == 422
        assert await state(media, upload.media_id) is MediaState.CONDEMNED
        assert (await uploads.initialize(7, wish, key + "-2")).media_id != upload.media_id


async def test_a_repeat_is_judged_by_the_digest_that_was_declared(media):
    """A finalize fills the digest in; who left it out and asks again asks for the same picture."""
    async with MemoryBlobs() as blobs:
        uploads = service(media, blobs)
        loose, strict, key = Wanted("image/png", 8), Wanted("image/png", 8, SHA), f"key-{next(_numbers)}"
        first = await uploads.initialize(7, loose, key)
        done = await media.finalise(first.media_id, SHA)

        assert (done.sha256, done.declared) == (SHA, "")
        assert (await uploads.initialize(7, loose, key)).media_id == first.media_id
        with pytest.raises(Conflict, match="another picture"):
            await uploads.initialize(7, strict, key)
        declared = await uploads.initialize(7, strict, key + "-2")
        assert (await media.get([declared.media_id]))[declared.media_id].declared == SHA
