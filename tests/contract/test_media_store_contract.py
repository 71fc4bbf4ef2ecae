"""Contract of every media store: in memory, and on PostgreSQL."""

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
from tests.helpers.pictures import PlainStripper

SHA = "ab" * 32
_numbers = itertools.count(1)


async def a_medium(media, owner=7, state=MediaState.INITIALISED):
    medium = Medium(f"{owner}_{next(_numbers)}", owner, "image/png", 8, SHA)
    await media.initialise(medium)
    if state is not MediaState.INITIALISED:
        await media.finalise(medium.id, SHA, 7, 60.0)
    return medium.id


async def state(media, media_id):
    return (await media.get([media_id]))[media_id].state


async def test_the_first_initialise_of_an_id_wins(media):
    """A repeat with the same id returns the first medium, whatever its arguments are."""
    first = Medium("7_1000", 7, "image/png", 8)

    assert await media.initialise(first) == first
    assert await media.initialise(Medium("7_1000", 7, "image/gif", 9)) == first
    assert await media.get(["7_1000", "7_0"]) == {"7_1000": first}


async def test_a_state_only_moves_forward(media):
    """initialised, finalised, attached, condemned; a finalize after a condemn returns None."""
    media_id = await a_medium(media)

    assert (await media.finalise(media_id, SHA, 7, 60.0)).state is MediaState.FINALISED
    assert await media.attach(7, [media_id], 55) == []
    assert (await media.finalise(media_id, SHA, 7, 60.0)).state is MediaState.ATTACHED
    assert [(medium.id, medium.tweet_id) for medium in await media.condemn([media_id])] == [(media_id, 55)]
    assert await media.condemn([media_id]) == []
    assert await media.finalise(media_id, SHA, 7, 60.0) is None
    assert await media.finalise("7_0", SHA, 7, 60.0) is None


async def test_attach_takes_all_media_of_a_tweet_or_none(media):
    """Media of another user or tweet and unfinalized media are refused; a repeat for the tweet succeeds."""
    good, unfinished = await a_medium(media, state=MediaState.FINALISED), await a_medium(media)
    others, taken = await a_medium(media, 8, MediaState.FINALISED), await a_medium(media, state=MediaState.FINALISED)
    assert await media.attach(7, [taken], 54) == []

    assert await media.attach(7, [good, unfinished, others, taken, "7_0"], 55) == [unfinished, others, taken, "7_0"]
    assert await state(media, good) is MediaState.FINALISED
    assert await media.attach(7, [good], 55) == await media.attach(7, [good], 55) == []
    assert [medium.id for medium in await media.of_tweets([55, 56])] == [good]


async def test_of_tweets_that_race_for_a_picture_one_gets_it(media):
    """Each sees what the others committed."""
    media_id = await a_medium(media, state=MediaState.FINALISED)

    answers = await asyncio.gather(*(media.attach(7, [media_id], tweet) for tweet in range(100, 108)))

    assert sum(answer == [] for answer in answers) == 1


async def test_a_detached_medium_is_free_again(media):
    """Only by its own tweet, and not after the tweet was confirmed."""
    media_id = await a_medium(media, state=MediaState.FINALISED)
    await media.attach(7, [media_id], 55)
    await media.detach([media_id], 56)
    assert await state(media, media_id) is MediaState.ATTACHED
    await media.detach([media_id], 55)
    assert await media.attach(7, [media_id], 57) == []
    await media.confirm([media_id])
    await media.detach([media_id], 57)

    assert await state(media, media_id) is MediaState.ATTACHED


async def test_orphans_are_selected_by_age_and_state(media):
    """Initialised and finalised media have separate age limits; attached and condemned ones have none."""
    started, unattached = await a_medium(media), await a_medium(media, state=MediaState.FINALISED)
    kept = await a_medium(media, state=MediaState.FINALISED)
    await media.attach(7, [kept], 55)
    await asyncio.sleep(0.02)

    assert await media.condemn_orphans(60, 60, 10) == []
    assert [medium.id for medium in await media.condemn_orphans(0.01, 60, 10)] == [started]
    assert [medium.id for medium in await media.condemn_orphans(0.01, 0.01, 10)] == [unattached]
    assert await state(media, kept) is MediaState.ATTACHED


async def test_attached_media_are_unconfirmed_until_their_tweet_is_confirmed(media):
    """They are listed by age; once confirmed, never again."""
    media_id = await a_medium(media, state=MediaState.FINALISED)
    await media.attach(7, [media_id], 55)
    await asyncio.sleep(0.02)

    assert await media.unconfirmed(60, 10) == []
    assert [medium.id for medium in await media.unconfirmed(0.01, 10)] == [media_id]
    await media.confirm([media_id])
    assert await media.unconfirmed(0.01, 10) == []


async def test_a_medium_is_condemned_only_in_the_expected_state(media):
    """A check that passed first wins over a later one that failed."""
    media_id = await a_medium(media)
    await media.finalise(media_id, SHA, 7, 60.0)

    assert await media.condemn([media_id], MediaState.INITIALISED) == []
    assert (await media.get([media_id]))[media_id].state is MediaState.FINALISED
    assert [medium.id for medium in await media.condemn([media_id], MediaState.FINALISED)] == [media_id]


async def test_a_condemned_medium_is_due_as_often_as_requested_and_then_deleted(media):
    """Due immediately, then after each requested interval; a repeated or early sweep changes nothing."""
    media_id = await a_medium(media)
    await media.finalise(media_id, SHA, 7, 60.0)
    await media.attach(7, [media_id], 77)
    await media.condemn([media_id])

    assert [medium.id for medium in await media.due(10)] == [medium.id for medium in await media.of_tweets([77])] == [media_id]
    (first,) = await media.due(10)
    await media.swept(first, 0.05)
    assert await media.of_tweets([77]) == []
    assert await media.due(10) == []
    once = (await media.get([media_id]))[media_id]
    for medium in (first, once):
        await media.swept(medium, 0.05)
        await media.swept(medium, None)
    assert (await media.get([media_id]))[media_id] == once and once.sweeps == 1
    await asyncio.sleep(0.08)
    await media.swept(once, 0.0)
    (twice,) = await media.due(10)
    assert twice.sweeps == 2
    await media.swept(twice, None)

    assert await media.get([media_id]) == {}


async def test_the_first_finalize_decides_what_is_served(media):
    """A repeat with another digest or size changes nothing."""
    media_id = await a_medium(media)
    first = await media.finalise(media_id, SHA, 7, 60.0)

    assert (first.sha256, first.served_size, first.size) == (SHA, 7, 8)
    assert await media.finalise(media_id, "cd" * 32, 9, 0.0) == first


async def test_uploaded_bytes_are_due_after_the_given_time_and_then_as_requested(media):
    """A repeated sweep changes nothing; a condemned medium has sweeps of its own."""
    media_id, condemned = await a_medium(media), await a_medium(media)
    await media.finalise(media_id, SHA, 7, 0.05)
    await media.finalise(condemned, SHA, 7, 0.0)
    await media.condemn([condemned])
    assert await media.originals_due(10) == []
    await asyncio.sleep(0.08)

    (first,) = await media.originals_due(10)
    assert (first.id, first.original_sweeps) == (media_id, 0)
    await media.original_swept(first, 0.05)
    await media.original_swept(first, 0.0)
    assert await media.originals_due(10) == []
    await asyncio.sleep(0.08)
    (second,) = await media.originals_due(10)
    assert second.original_sweeps == 1
    await media.original_swept(second, None)
    assert await media.originals_due(10) == []
    assert (await media.get([media_id]))[media_id].original_sweeps == 2


async def test_one_collector_leads_until_its_lease_ends(media):
    """The holder can renew; another one waits for the end."""
    assert await media.lead("media-1", 0.1)
    assert not await media.lead("media-2", 0.1)
    assert await media.lead("media-1", 0.1)
    await asyncio.sleep(0.15)

    assert await media.lead("media-2", 0.1)
    assert not await media.lead("media-1", 0.1)


@pytest.mark.real
async def test_a_finalize_and_a_collector_that_race_agree(real_media):
    """Either the owner keeps the picture, or the finalize reports that it was removed: never both."""
    ids = [await a_medium(real_media) for _ in range(20)]

    async def finalise(media_id):
        return await real_media.finalise(media_id, SHA, 7, 60.0)

    done, condemned = await asyncio.gather(
        asyncio.gather(*map(finalise, ids)), asyncio.gather(*(real_media.condemn_orphans(0, 3600, 5) for _ in range(4))))
    kept = {medium.id for medium in done if medium is not None}
    removed = {medium.id for batch in condemned for medium in batch}

    assert kept | removed == set(ids) and not kept & removed


def service(media, blobs):
    users = MemoryUsers()
    ports = bootstrap.ports_of({"media": media, "edge": MemoryEdge(), "blobs": blobs, "users": users})
    return Media(ports, Visibility(users, 2.0), 120, PlainStripper())


async def test_no_upload_url_is_issued_for_a_condemned_medium(media):
    """The URL would outlive the row.

    The key is refused as long as the row exists; a new key gets a new medium.
    """
    async with MemoryBlobs() as blobs:
        uploads = service(media, blobs)
        wanted, key = Wanted("image/png", 8, SHA), f"key-{next(_numbers)}"
        upload = await uploads.initialize(7, wanted, key)
        await media.condemn([upload.media_id])

        with pytest.raises(Conflict, match="use a new key") as refused:
            await uploads.initialize(7, wanted, key)

        assert refused.value.status == 422
        assert await state(media, upload.media_id) is MediaState.CONDEMNED
        assert (await uploads.initialize(7, wanted, key + "-2")).media_id != upload.media_id


async def test_a_repeat_is_compared_by_the_declared_digest(media):
    """A finalize fills the digest in; a repeat that declares none still names the same picture."""
    async with MemoryBlobs() as blobs:
        uploads = service(media, blobs)
        undeclared, declaring, key = Wanted("image/png", 8), Wanted("image/png", 8, SHA), f"key-{next(_numbers)}"
        first = await uploads.initialize(7, undeclared, key)
        done = await media.finalise(first.media_id, SHA, 7, 60.0)

        assert (done.sha256, done.declared) == (SHA, "")
        assert (await uploads.initialize(7, undeclared, key)).media_id == first.media_id
        with pytest.raises(Conflict, match="another picture"):
            await uploads.initialize(7, declaring, key)
        declared = await uploads.initialize(7, declaring, key + "-2")
        assert (await media.get([declared.media_id]))[declared.media_id].declared == SHA
