"""Contract of every tweet store: stored once, deleted permanently, recorded in the outbox."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest

from system.kernel import events, ids
from system.kernel.events import Tweet
from system.kernel.text import entities
from system.stores.cassandra.tweets import bucket_of, shard_of
from tests.helpers.durable_stores import (
    a_tweet,
    durable_settings,
    fresh_author,
    fresh_id,
    real_tweets,
    tweets,
)


async def _rows(store, tweet_id: int, wall_ms: int | None = None):
    """Return the outbox rows of one tweet in the bucket of `wall_ms` (default: the id's) and the next one."""
    bucket = bucket_of(wall_ms or ids.ms_of(tweet_id))
    rows = await store.outbox(shard_of(tweet_id), bucket) + await store.outbox(shard_of(tweet_id), bucket + 1)
    return [row for row in rows if row.event.payload["id"] == tweet_id]


async def test_a_tweet_is_read_back_unchanged_by_id_and_by_author(tweets):
    """Every field survives, empty ones too."""
    parent = fresh_id()
    reply = a_tweet("Größe 10 €, naïve 🙂", in_reply_to=parent, conversation_id=parent, media_keys=("m1", "m2"))
    plain = a_tweet("", author_id=reply.author_id)

    await tweets.append(reply)
    await tweets.append(plain)

    assert await tweets.get([reply.id, plain.id]) == {reply.id: reply, plain.id: plain}
    assert await tweets.by_author(reply.author_id, None, 10) == [plain, reply]


async def test_entities_are_stored_with_a_tweet(tweets):
    """Where there are none, and in rows of an earlier version, none are read: they are computed when needed."""
    tagged = dataclasses.replace(a_tweet("#zoo"), entities=entities.packed("#zoo"))
    plain, old = dataclasses.replace(a_tweet("zoo"), entities=""), a_tweet("an #old one")
    for tweet in (tagged, plain, old):
        await tweets.append(tweet)
    read = await tweets.get([tagged.id, plain.id, old.id])

    assert read[tagged.id].entities == tagged.entities
    assert [entities.of(read[tweet.id]) for tweet in (tagged, plain, old)] == [
        tagged.entities, "", entities.packed("an #old one")]
    assert [entities.of(tweet) for tweet in await tweets.by_author(tagged.author_id, None, 1)] == [tagged.entities]
    (row,) = await _rows(tweets, tagged.id)
    assert events.tweet_of(row.event.payload).entities == tagged.entities


async def test_mentions_of_a_user_are_read_newest_first(tweets):
    """Below a bound, at most as many as requested; a repeat changes nothing; other users have their own."""
    ann, bob = fresh_author(), fresh_author()
    named = [a_tweet(f"tweet {n}") for n in range(4)]
    for tweet in (*named, named[0]):
        await tweets.mention(tweet, [ann])
    await tweets.mention(named[1], [ann, bob])
    await tweets.mention(named[2], [])

    newest_first = [(tweet.id, tweet.author_id) for tweet in sorted(named, key=lambda tweet: -tweet.id)]
    assert await tweets.mentions(ann, None, 10) == newest_first
    assert await tweets.mentions(ann, newest_first[0][0], 2) == newest_first[1:3]
    assert await tweets.mentions(bob, None, 10) == [(named[1].id, named[1].author_id)]
    assert await tweets.mentions(fresh_author(), None, 10) == []


async def test_unknown_ids_are_left_out(tweets):
    """`get` returns what exists, also for an empty request and for repeated ids."""
    known = a_tweet()
    await tweets.append(known)

    assert await tweets.get([]) == {}
    assert await tweets.get([fresh_id()]) == {}
    assert set(await tweets.get([known.id, fresh_id(), known.id])) == {known.id}


async def test_more_ids_than_one_read_holds_are_all_found(tweets):
    """60 ids take three reads behind the port; the caller gets one result."""
    many = [a_tweet(f"tweet {n}") for n in range(60)]
    await asyncio.gather(*(tweets.append(tweet) for tweet in many))

    assert await tweets.get([tweet.id for tweet in many]) == {tweet.id: tweet for tweet in many}


async def test_an_authors_page_is_newest_first_and_strictly_below_before(tweets):
    """Pages by id are disjoint and gap-free."""
    author = fresh_author()
    one, two, three = [a_tweet(str(n), author_id=author) for n in range(3)]
    for tweet in (two, one, three):
        await tweets.append(tweet)

    assert [t.id for t in await tweets.by_author(author, None, 2)] == [three.id, two.id]
    assert [t.id for t in await tweets.by_author(author, two.id, 2)] == [one.id]
    assert await tweets.by_author(author, one.id, 2) == []


async def test_a_repeated_append_is_one_tweet_and_one_outbox_row(tweets):
    """A replay writes the same cells with the same timestamp."""
    tweet = a_tweet()

    for _ in range(3):
        await tweets.append(tweet)

    assert await tweets.by_author(tweet.author_id, None, 10) == [tweet]
    assert [row.event.id for row in await _rows(tweets, tweet.id)] == [str(tweet.id)]


async def test_the_outbox_row_contains_the_whole_tweet(tweets):
    """The relay can publish from the row alone."""
    tweet = a_tweet("carried", media_keys=("m1",))

    await tweets.append(tweet, trace="trace-1")

    (row,) = await _rows(tweets, tweet.id)
    assert (row.event.topic, row.event.key, row.event.trace) == ("new_tweet", tweet.author_id, "trace-1")
    assert row.event.payload["text"] == "carried"
    assert row.event.payload["media_keys"] == ["m1"]
    assert row.written_ms == ids.ms_of(tweet.id)


async def test_a_delete_marks_both_tables_and_writes_an_outbox_row(tweets):
    """Deleted tweets stay, marked; a repeat changes nothing."""
    tweet = a_tweet()
    await tweets.append(tweet)
    before_ms = time.time_ns() // 1_000_000

    await tweets.delete(tweet.id, tweet.author_id, trace="t")
    await tweets.delete(tweet.id, tweet.author_id)

    assert (await tweets.get([tweet.id]))[tweet.id].deleted is True
    assert [t.deleted for t in await tweets.by_author(tweet.author_id, None, 10)] == [True]
    events = [row.event for row in await _rows(tweets, tweet.id, before_ms) if row.event.topic == "tweet_deleted"]
    assert {event.id for event in events} == {f"{tweet.id}-deleted"}
    assert events[0].payload == {"id": tweet.id, "author_id": tweet.author_id}


@pytest.mark.parametrize("ahead_ms", [0, 5_000], ids=["same clock", "5 s ahead"])
async def test_a_late_replay_of_a_post_stays_deleted(tweets, ahead_ms):
    """Point 12: no clock revives a tweet, not even one that was 5 s ahead when the tweet was written."""
    tweet = a_tweet(wall_ms=time.time_ns() // 1_000_000 + ahead_ms)
    await tweets.append(tweet)
    await tweets.delete(tweet.id, tweet.author_id)

    await tweets.append(tweet)
    await tweets.upsert([tweet])

    assert (await tweets.get([tweet.id]))[tweet.id].deleted is True
    assert [t.deleted for t in await tweets.by_author(tweet.author_id, None, 10)] == [True]


async def test_mark_deleted_writes_no_event(tweets):
    """It marks both tables, is safe to repeat and writes nothing to the outbox."""
    tweet = a_tweet("announced")
    await tweets.append(tweet)
    before_ms = time.time_ns() // 1_000_000
    for _ in range(2):
        await tweets.mark_deleted([(tweet.id, tweet.author_id)])

    assert (await tweets.get([tweet.id]))[tweet.id].deleted is True
    assert [t.deleted for t in await tweets.by_author(tweet.author_id, None, 10)] == [True]
    assert [row for row in await _rows(tweets, tweet.id, before_ms) if row.event.topic == "tweet_deleted"] == []


async def test_a_delete_that_overtakes_its_post_wins(tweets):
    """The mark may arrive first, across regions or after a slow write; the text is added later."""
    tweet = a_tweet("late")

    await tweets.delete(tweet.id, tweet.author_id)
    bare = (await tweets.get([tweet.id]))[tweet.id]
    await tweets.append(tweet)
    whole = (await tweets.get([tweet.id]))[tweet.id]

    assert (bare.text, bare.author_id, bare.deleted) == ("", tweet.author_id, True)
    assert (whole.text, whole.deleted) == ("late", True)


async def test_an_upsert_writes_the_tweet_without_an_event(tweets):
    """The tweet of a consumed event is stored, and not published again."""
    live, deleted = a_tweet("live"), a_tweet("gone", deleted=True)

    await tweets.upsert([live, deleted])
    await tweets.upsert([])

    stored = await tweets.get([live.id, deleted.id])
    assert stored[live.id] == live
    assert stored[deleted.id].deleted is True
    assert await _rows(tweets, live.id) == []


async def test_outbox_rows_are_in_their_shard_and_bucket_oldest_first(tweets):
    """Point 11: (id mod 4, ten seconds), so that a scan is short and reads no tombstones."""
    start_ms = 1_800_000_000_000 + fresh_author() * 10_000
    early = ids.compose(start_ms + 9_998, 0, 3)
    late = ids.compose(start_ms + 9_999, 0, 3)
    next_bucket = ids.compose(start_ms + 10_000, 0, 3)
    other_shard = ids.compose(start_ms + 9_999, 0, 2)
    for tweet_id in (late, early, next_bucket, other_shard):
        await tweets.append(Tweet(tweet_id, 1, "x", ids.ms_of(tweet_id), tweet_id))

    rows = await tweets.outbox(3, start_ms // 10_000)

    assert [int(row.event.id) for row in rows] == [early, late]
    assert [int(row.event.id) for row in await tweets.outbox(3, start_ms // 10_000 + 1)] == [next_bucket]
    assert [int(row.event.id) for row in await tweets.outbox(2, start_ms // 10_000)] == [other_shard]


async def test_a_late_replay_is_written_to_the_bucket_of_its_id(tweets):
    """Point 11: so a re-scan of the last two minutes finds rows that a slow write left behind a mark."""
    minute_ago_ms = time.time_ns() // 1_000_000 - 60_000
    tweet = a_tweet(wall_ms=minute_ago_ms)
    await tweets.set_outbox_mark(shard_of(tweet.id), bucket_of(minute_ago_ms) + 3)

    await tweets.append(tweet)

    rows = await tweets.outbox(shard_of(tweet.id), bucket_of(minute_ago_ms))
    assert str(tweet.id) in [row.event.id for row in rows]


async def test_an_outbox_mark_only_rises(tweets):
    """Two relays may raise it in any order. Shard 900 is unused."""
    assert await tweets.outbox_mark(900) == 0

    await tweets.set_outbox_mark(900, 50)
    await tweets.set_outbox_mark(900, 40)
    assert await tweets.outbox_mark(900) == 50

    await tweets.set_outbox_mark(900, 51)
    assert await tweets.outbox_mark(900) == 51


async def test_seeded_tweets_are_ordinary_tweets(tweets):
    """Bulk seeding, done twice, stores each tweet once; texts of every size fit."""
    author = fresh_author()
    texts = ["", "short", "é" * 280, "🙂" * 280] * 300
    seeded = [a_tweet(text, author_id=author + n % 7) for n, text in enumerate(texts)]

    assert await tweets.bulk_load(seeded) == 1200
    await tweets.bulk_load(seeded)
    await tweets.delete(seeded[0].id, seeded[0].author_id)

    expected = {(t.id, t.author_id, t is seeded[0]) for t in seeded}
    assert expected <= set(await tweets.all_ids())
    assert expected <= set(await tweets.all_author_ids())
    runs = [run async for run in tweets.scan_run(range(author, author + 7))]
    assert sorted(t.id for run in runs for t in run) == sorted(t.id for t in seeded)
    assert (await tweets.get([seeded[3].id]))[seeded[3].id] == seeded[3]


async def test_the_tweets_of_an_author_are_counted_without_the_deleted_ones(tweets):
    """Also a delete whose tweet was never written."""
    author = fresh_author()
    made = [a_tweet(f"number {n}", author_id=author) for n in range(5)]
    for tweet in made:
        await tweets.append(tweet)
    await tweets.delete(made[0].id, author)
    await tweets.mark_deleted([(fresh_id(), author)])

    nobody = fresh_author()
    assert await tweets.tweet_counts([author, nobody, author]) == {author: 4, nobody: 0}
    assert await tweets.tweet_counts([]) == {}


async def test_replies_are_counted_once_and_a_deleted_reply_stays_deleted(tweets):
    """Events may be repeated, and arrive in any order."""
    parent, lonely = fresh_id(), fresh_id()
    first, second, third = fresh_id(), fresh_id(), fresh_id()
    for reply in (first, second, first):
        await tweets.note_reply(parent, reply)
    await tweets.note_reply(parent, third, deleted=True)
    await tweets.note_reply(parent, third)
    assert await tweets.reply_counts([parent, lonely]) == {parent: 2, lonely: 0}

    await tweets.note_reply(parent, second, deleted=True)
    await tweets.note_reply(parent, second)

    assert await tweets.reply_counts([parent]) == {parent: 1}
