"""Search on the real servers: dead letters, versions, pages during writes, and tweets that must not be visible."""

from __future__ import annotations

import asyncio
import secrets
from itertools import chain
from typing import Any

import pytest

from system.kernel import events
from system.kernel.events import Event, Tweet
from system.kernel.search_query import Query, Recipient, Tag, Word
from system.ports import Ask, Document, Indexed
from system.services.search import worker as indexer_worker
from system.services.search.handlers import Indexer
from tests.helpers import services_rig
from tests.helpers.races_bench import held
from tests.helpers.services_rig import Rig, stored, until
from tweetlab.lab import reindex

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]
PATH = "/2/tweets/search/recent?query="


def fresh_word() -> str:
    """Return a word that no other tweet contains."""
    return f"w{secrets.token_hex(6)}"


async def page(rig: Rig, viewer: int, query: str) -> tuple[list[int], dict[str, Any]]:
    status, body, _ = await rig.ask("GET", PATH + query, viewer)
    assert status == 200, body
    return [int(tweet["id"]) for tweet in body.get("data", ())], body["meta"]


async def finds(rig: Rig, viewer: int, query: str, wanted: set[int]) -> None:
    """Wait until a search returns exactly these tweets."""
    async def shown() -> bool:
        return set((await page(rig, viewer, query))[0]) == wanted

    await until(shown)


async def dead_letters(rig: Rig, topic: str, reason: str) -> list[Any]:
    """Return the dead letters of `topic`, once there is one whose bytes contain `reason`."""
    consumer = await rig.ports.log.consumer(f"reader-{fresh_word()}", [topic + events.DEAD])
    found: list[Any] = []
    try:
        async def has_letter() -> bool:
            found.extend(await consumer.poll(500, 0.5))
            return any(reason.encode() in record.raw for record in found)

        await until(has_letter)
    finally:
        await consumer.close()
    return found


async def test_a_tweet_is_found_by_every_kind_of_term_and_disappears_with_its_delete(rig):
    """From the acknowledged post to the index and out of it, through Kafka, by the stored tweet."""
    (ann,) = await rig.people("ann")
    word = fresh_word()
    tweet = await rig.post(ann, f"The {word} sings, loudly. #Opera{word}")
    await finds(rig, ann, word, {tweet})
    user = (await rig.ports.users.by_id([ann]))[ann]
    for query in (f"%23opera{word}", f"%22{word}+SINGS%22", f"{word}+from:{user.username}", f"{word}+-quiet"):
        assert (await page(rig, ann, query))[0] == [tweet], query
    for query in (f"%22sings+{word}%22", f"{word}+-loudly", f"{word}+-from:{user.username}", f"{word}+-%23opera{word}"):
        assert (await page(rig, ann, query))[0] == [], query
    status, body, _ = await rig.ask("GET", PATH + f"{word}&expansions=author_id&tweet.fields=created_at", ann)
    assert status == 200 and set(body["data"][0]) == {"id", "text", "created_at", "author_id", "edit_history_tweet_ids"}
    assert body["includes"]["users"][0]["username"] == user.username

    assert (await rig.ask("DELETE", f"/2/tweets/{tweet}", ann))[0] == 200
    assert (await page(rig, ann, word))[0] == []  # by the stored tweet, before the index is updated

    async def gone() -> bool:
        return not await rig.ports.index.found([tweet])

    await until(gone)


async def test_poison_records_are_dead_lettered_and_the_others_are_indexed(rig):
    """An event without a tweet, and a document that Elasticsearch rejects: both are kept, neither blocks the partition."""
    (ann,) = await rig.people("ann")
    word = fresh_word()
    immense = await stored(rig.ports, ann, f"{word} #{'x' * 40_000}")
    good = [await stored(rig.ports, ann, f"{word} {number}") for number in range(3)]
    nameless = Event(events.NEW_TWEET, ann, f"poison-{word}", {"text": word})
    await rig.ports.log.publish([nameless, events.new_tweet(immense), *map(events.new_tweet, good)])

    await finds(rig, ann, word, {tweet.id for tweet in good})
    letters = await dead_letters(rig, events.NEW_TWEET, f"poison-{word}")
    await dead_letters(rig, events.NEW_TWEET, "x" * 1_000)
    assert nameless.id in [record.event.id for record in letters if record.event]

    async def caught_up() -> bool:
        return sum((await rig.ports.log.lag("indexer", (events.NEW_TWEET,))).values()) == 0

    await until(caught_up)


async def test_items_that_the_index_refused_as_busy_are_read_and_sent_again(rig):
    """A 429 of one item does not affect the others, and the item is not lost. The retry reads the tweet again."""
    (ann,) = await rig.people("ann")
    word = fresh_word()
    first, second = await stored(rig.ports, ann, f"{word} a"), await stored(rig.ports, ann, f"{word} b")
    real, sent = rig.ports.index, []

    class Busy:
        async def index(self, documents):
            sent.append([document.tweet.id for document in documents])
            if len(sent) == 1:
                await real.index([document for document in documents if document.tweet.id == first.id])
                await rig.ports.tweets.delete(second.id, ann)
                return Indexed(busy=(second.id,))
            return await real.index(documents)

    class Swapped:
        tweets, likes, index = rig.ports.tweets, rig.ports.likes, Busy()

    worker = indexer_worker.Worker.__new__(indexer_worker.Worker)
    worker.indexer = Indexer(Swapped())
    assert await worker._index({first.id, second.id}) == ({}, 1)
    await real.refresh()
    assert sent == [[first.id, second.id], [second.id]]
    assert await real.found([first.id, second.id]) == {first.id}


async def test_a_like_reaches_the_index_and_raises_the_rank_of_its_tweet(rig):
    """Through PostgreSQL's outbox, Kafka and a new count; without the like, the rank falls again."""
    ann, bob = await rig.people("ann", "bob")
    word = fresh_word()
    older, newer = await rig.post(ann, f"{word} one"), await rig.post(ann, f"{word} two")
    await finds(rig, ann, word, {older, newer})

    async def best(wanted: int) -> None:
        async def first() -> bool:
            return (await page(rig, ann, word))[0][0] == wanted

        await until(first)

    await best(newer)
    status, body, _ = await rig.ask("POST", f"/2/users/{bob}/likes", bob, json={"tweet_id": str(older)})
    assert status == 200, body
    await best(older)
    assert (await rig.ask("DELETE", f"/2/users/{bob}/likes/{older}", bob))[0] == 200
    await best(newer)


async def test_counts_that_are_read_late_do_not_overwrite_newer_ones(rig):
    """Point 13. An indexer reads no like and pauses; a like is stored and another indexes it; the first resumes with an
    older version."""
    ann, bob = await rig.people("ann", "bob")
    word = fresh_word()
    liked, plain = await stored(rig.ports, ann, f"{word} one"), await stored(rig.ports, ann, f"{word} two")
    with held("index.after_read", ids=(liked.id,)) as late:
        first = asyncio.create_task(Indexer(rig.ports).index_current([liked.id]))
        await late.reached()
        await rig.ports.likes.like(bob, liked.id)
        await Indexer(rig.ports).index_current([plain.id, liked.id])
        late.release()
        await first
    await rig.ports.index.refresh()
    await asyncio.sleep(0.3)

    assert (await page(rig, ann, word))[0] == [liked.id, plain.id]


async def test_events_in_any_order_leave_the_newest_version(rig):
    """Delete before post, post twice, delete twice, by two concurrent indexers: the index converges to the stored state."""
    (ann,) = await rig.people("ann")
    word = fresh_word()
    tweets = [await stored(rig.ports, ann, f"{word} {number}") for number in range(6)]
    crowd = [Indexer(rig.ports) for _ in range(2)]
    everything = [tweet.id for tweet in tweets]
    for gone in tweets[:3]:
        readings = [one.index_current(everything) for one in crowd]
        await asyncio.gather(*readings, rig.ports.tweets.delete(gone.id, ann))
        await asyncio.gather(*(one.index_current([gone.id]) for one in crowd))
    await rig.ports.index.refresh()

    assert await rig.ports.index.found(everything) == {tweet.id for tweet in tweets[3:]}
    assert len((await rig.ports.index.search(Ask(Query((Word(word),)), 10))).hits) == 3


@pytest.mark.parametrize("order", ["relevancy", "recency"])
async def test_pages_are_disjoint_and_complete_while_tweets_are_indexed(rig, order):
    """Scores change with every document, and the index refreshes between pages: tweets present at the start appear once."""
    (ann,) = await rig.people("ann")
    word = fresh_word()
    existing = [await stored(rig.ports, ann, f"{word} {'fish ' * (number % 5)}") for number in range(40)]
    await rig.ports.index.index([Document(tweet, 1, likes=tweet.id % 7) for tweet in existing])
    await rig.ports.index.refresh()
    await asyncio.sleep(0.3)  # the service may still share a slightly older view
    late: list[Tweet] = []

    async def disturb() -> None:
        fresh = [await stored(rig.ports, ann, f"{word} fish") for _ in range(5)]
        late.extend(fresh)
        changed = [Document(tweet, 2, likes=1_000) for tweet in existing[::5]]
        await rig.ports.index.index([Document(tweet, 1) for tweet in fresh] + changed)
        await rig.ports.index.refresh()

    pages, token = [], ""
    while True:
        ids, meta = await page(rig, ann, f"{word}&max_results=9&sort_order={order}{token}")
        pages.append(ids)
        await disturb()
        if "next_token" not in meta:
            break
        token = f"&next_token={meta['next_token']}"
    shown = list(chain(*pages))
    assert len(shown) == len(set(shown))
    assert set(shown) == {tweet.id for tweet in existing}
    assert len(late) >= 25


async def test_a_tweet_deleted_after_the_index_search_is_not_shown(rig):
    """The index has it, the store does not, and the store wins; the page is filled with the next matches."""
    (ann,) = await rig.people("ann")
    word = fresh_word()
    tweets = [await stored(rig.ports, ann, f"{word} {number}") for number in range(5)]
    await rig.ports.index.index([Document(tweet, 1) for tweet in tweets])
    await rig.ports.index.refresh()
    await rig.ports.tweets.delete(tweets[4].id, ann)
    ids, meta = await page(rig, ann, f"{word}&max_results=3&sort_order=recency")
    assert ids == [tweets[at].id for at in (3, 2, 1)]
    assert (await page(rig, ann, f"{word}&max_results=3&sort_order=recency&next_token={meta['next_token']}"))[0] == [tweets[0].id]


async def test_tweets_of_a_protected_author_are_found_only_by_permitted_readers(rig):
    """Rule 10: from the acknowledgement of the switch on, in results, counts and cursors."""
    ann, bob, eve = await rig.people("ann", "bob", "eve")
    word = fresh_word()
    await rig.ports.users.follow(bob, ann)
    secret = [await rig.post(ann, f"{word} secret #s{word}") for _ in range(3)]
    public = await rig.post(eve, f"{word} public")
    await finds(rig, eve, word, {*secret, public})
    status, body, _ = await rig.ask("PUT", "/2/users/me", ann, json={"protected": True})
    assert status == 200, body
    name = (await rig.ports.users.by_id([ann]))[ann].username
    for query in (word, f"{word}&sort_order=recency", f"{word}&max_results=1"):
        ids, meta = await page(rig, eve, query)
        assert ids == [public] and "next_token" not in meta, query
    for query in (f"from:{name}", f"%23s{word}", f"{word}+secret", f"{word}+from:{name}&max_results=1"):
        assert await page(rig, eve, query) == ([], {"result_count": 0}), query
    assert set((await page(rig, bob, word))[0]) == {*secret, public}
    assert set((await page(rig, ann, f"from:{name}+{word}"))[0]) == set(secret)


async def test_many_hidden_matches_leave_no_empty_page_with_a_cursor(rig):
    """There are more than all queries for one page can return: to a stranger it looks like a word that nobody used."""
    ann, bob, eve = await rig.people("ann", "bob", "eve")
    word = fresh_word()
    await rig.ports.users.follow(bob, ann)
    assert (await rig.ask("PUT", "/2/users/me", ann, json={"protected": True}))[0] == 200
    tweets = await asyncio.gather(*(stored(rig.ports, ann, f"{word} {number}") for number in range(60)))
    await rig.ports.log.publish([events.new_tweet(tweet) for tweet in tweets])

    async def indexed() -> bool:
        return await rig.ports.index.found([tweet.id for tweet in tweets]) == {tweet.id for tweet in tweets}

    await until(indexed)
    for order in ("relevancy", "recency"):
        query = f"{word}&max_results=1&sort_order={order}"
        assert await page(rig, eve, query) == ([], {"result_count": 0})
        ids, meta = await page(rig, bob, query)
        assert len(ids) == 1 and "next_token" in meta


async def test_a_tweet_that_becomes_protected_during_a_search_is_not_shown(rig):
    """Visibility is checked last: checked earlier, a switch in between would be missed."""
    ann, eve = await rig.people("ann", "eve")
    word = fresh_word()
    tweet = await rig.post(ann, word)
    await finds(rig, eve, word, {tweet})
    with held("search.after_live", ids=(tweet,)) as slow:
        search = asyncio.create_task(page(rig, eve, word))
        await slow.reached()
        assert (await rig.ask("PUT", "/2/users/me", ann, json={"protected": True}))[0] == 200
        slow.release()
    assert await search == ([], {"result_count": 0})


async def test_an_invalid_query_is_refused_with_position_and_fix(rig):
    """400 through the gateway, in the error format of Twitter's API."""
    (ann,) = await rig.people("ann")
    status, body, _ = await rig.ask("GET", PATH + "walrus+%22sea+lion", ann)
    assert (status, body["title"]) == (400, "Invalid Request")
    assert "character 8" in body["detail"] and "never closed" in body["detail"]
    assert (await rig.ask("GET", PATH + "walrus&next_token=abc", ann))[0] == 400


async def test_an_index_of_another_version_is_built_again_from_the_stores(monkeypatch):
    """Tweets, likes and the recipients of replies; a crash in between leaves the older index, and the next start repeats it."""
    async with services_rig.stores(services_rig.fresh_settings()) as ports:
        ann, bob = [(await ports.users.create(f"{name}{secrets.token_hex(3)}", name, "")).id for name in ("ann", "bob")]
        tweet, gone = await stored(ports, ann, "東京都の動物園 #Zoo"), await stored(ports, ann, "gone")
        reply = Tweet(tweet.id + 1, bob, "yes", tweet.created_ms, tweet.id, tweet.id)
        await ports.tweets.append(reply)
        await ports.tweets.delete(gone.id, ann)
        await ports.likes.like(bob, tweet.id)
        index: Any = ports.index
        assert await reindex.rebuild(ports) == 0
        await index._client.indices.create(index=f"{index._name}-v1")

        async def crashes(*_: Any) -> None:
            raise RuntimeError("crash")

        with monkeypatch.context() as patched, pytest.raises(RuntimeError):
            patched.setattr(reindex, "index_all", crashes)
            await reindex.rebuild(ports)
        assert await index.older() == [f"{index._name}-v1"]
        lines: list[str] = []
        assert await reindex.rebuild(ports, lines.append) == 2
        assert "indexing 2 tweets again" in lines[0] and await index.older() == [] and await reindex.rebuild(ports) == 0
        for query, wanted in ((Word("京都"), [tweet.id]), (Tag("zoo"), [tweet.id]), (Recipient(ann), [reply.id]),
                              (Word("gone"), [])):
            assert [hit.id for hit in (await index.search(Ask(Query((query,)), 10))).hits] == wanted
