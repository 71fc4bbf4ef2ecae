"""SearchIndex: words, order, versions, deleted tweets, and the results of a bulk."""

from __future__ import annotations

import dataclasses
import inspect

import elastic_transport
import elasticsearch
import pytest

from system.kernel.errors import LabError, StoreUnavailable
from system.kernel.search_query import Author, Phrase, Query, Rank, Tag, Word
from system.ports import Ask, Indexed
from tests.helpers.adapters import opened
from tests.helpers.search_fixtures import FIRST, NOW_MS, document, found, words


async def test_a_match_contains_all_words(index) -> None:
    """Words are AND-ed, whatever their case and order; a hashtag is also found as a word."""
    await index.index([document(0, "Hello brave world"), document(1, "hello #World!"), document(2, "hello")])
    assert await found(index, words("WORLD hello")) == [1, 0]
    assert await found(index, words("hello")) == [2, 1, 0]
    assert await found(index, words("hello moon")) == []
    assert await found(index, words("!?")) == []


@pytest.mark.parametrize(("query", "numbers"), [
    (Query((Word("sea"), Word("lion"))), [3, 1, 0]),
    (Query((Phrase("sea lion"),)), [3, 0]),
    (Query((Phrase("LION sea"),)), [1]),
    (Query((Tag("zoo"),)), [3, 2]),
    (Query((Tag("zoo"), Word("lion"))), [3]),
    (Query((Author(43),)), [4, 2]),
    (Query((Author(43), Tag("zoo"))), [2]),
    (Query((Word("sea"),), (Word("otter"),)), [3, 1, 0]),
    (Query((Word("sea"),), (Phrase("sea lion"), Author(43))), [1]),
    (Query((Author(42),), (Tag("zoo"),)), [1, 0]),
    (Query((Word("zoo"),), (Tag("zoo"),)), [4]),
    (Query((Word("🦭"),)), [4]),
    (Query((Tag("zo"),)), []),
    (Query((Author(4),)), []),
])
async def test_each_kind_of_term_is_wanted_or_unwanted(index, query: Query, numbers: list[int]) -> None:
    """Phrases match in order; hashtags and authors match exactly; a word matches anywhere."""
    await index.index([
        document(0, "A sea lion."), document(1, "lion, sea and sun"), document(2, "look #Zoo", 43),
        document(3, "Sea lion at the #zoo"), document(4, "sea otter 🦭 zoo", 43)])
    assert await found(index, query) == numbers


async def test_pages_go_from_the_newest_to_older_without_overlap(index) -> None:
    """The cursor distinguishes adjacent 64-bit ids."""
    await index.index([document(number, "same words") for number in range(5)])
    query = words("words")
    assert await found(index, query, limit=2) == [4, 3]
    assert await found(index, query, before=FIRST + 3, limit=2) == [2, 1]
    assert await found(index, query, before=FIRST + 1, limit=2) == [0]
    assert await found(index, query, before=FIRST, limit=2) == []
    assert await found(index, query, since=FIRST + 2) == [4, 3]
    assert await found(index, query, before=FIRST + 4, since=FIRST + 1) == [3, 2]


async def test_the_nth_newest_match_is_returned(index) -> None:
    """None if there are fewer than n matches."""
    await index.index([document(number, f"odd {number % 2}") for number in range(7)])
    query = words("odd 1")
    assert await index.refresh() is None
    assert [await index.nth_newest(Ask(query, 0), n) for n in (1, 3, 4)] == [FIRST + 5, FIRST + 1, None]
    assert await index.nth_newest(Ask(query, 0, before=FIRST + 5), 1) == FIRST + 3


async def test_tweets_of_hidden_authors_are_no_matches(index) -> None:
    """They are on no page, and `nth_newest` does not count them."""
    await index.index([document(number, "walrus", 43 + number % 2) for number in range(6)])
    for hidden, numbers in ((frozenset[int](), [5, 4, 3, 2]), (frozenset({44, 99}), [4, 2, 0]), (frozenset({43, 44}), [])):
        assert await found(index, words("walrus"), limit=4, hidden=hidden) == numbers
    ranked = Ask(words("walrus"), 4, rank=Rank(NOW_MS, 3_600.0, 0.1), hidden=frozenset({44}))
    assert sorted(hit.id - FIRST for hit in (await index.search(ranked)).hits) == [0, 2, 4]
    assert await index.nth_newest(Ask(words("walrus"), 0, hidden=frozenset({44})), 3) == FIRST


async def test_an_older_version_never_overwrites_a_newer_one(index) -> None:
    """The newest version wins, in whatever order versions arrive; a version may repeat."""
    outcomes = [await index.index([document(0, "second", version=2)]),
                await index.index([document(0, "first", version=1), document(1, "first", version=1)]),
                await index.index([document(0, "second", version=2)])]
    assert [(dict(outcome.refused), outcome.busy) for outcome in outcomes] == [({}, ())] * 3
    assert await found(index, words("first")) == [1]
    assert await found(index, words("second")) == [0]


async def test_a_late_write_does_not_revive_a_deleted_tweet(index) -> None:
    """Correctness point 12: a deleted tweet stays as a document, so its version is not forgotten."""
    await index.index([document(0, "oops #oops", version=1)])
    await index.index([document(0, "oops #oops", version=3, deleted=True)])
    await index.index([document(0, "oops #oops", version=2)])
    for query in (words("oops"), Query((Tag("oops"),)), Query((Author(42),))):
        assert await found(index, query) == []
    assert await index.found([FIRST, FIRST + 1]) == set()


async def test_found_returns_the_ids_that_a_search_can_find(index) -> None:
    """Neither ids that were never indexed nor deleted ones."""
    await index.index([document(0, "here"), document(1, "gone", deleted=True), document(2, "")])
    await index.refresh()
    assert await index.found([FIRST + 9, FIRST + 2, FIRST + 1, FIRST]) == {FIRST, FIRST + 2}
    assert await index.found([]) == set()


async def test_documents_of_long_deleted_tweets_are_swept_in_bounded_batches(index) -> None:
    """By the time of the deletion, which is their version; live documents stay, however old they are."""
    day_ns = 86_400 * 1_000_000_000
    await index.index([document(number, "x", version=day_ns + number, deleted=True) for number in range(5)])
    await index.index([document(7, "x", version=day_ns), document(8, "x", version=3 * day_ns, deleted=True)])
    swept = []
    for _ in range(4):
        await index.refresh()
        swept.append(await index.sweep(2 * day_ns // 1_000_000, 2))
    assert swept == [2, 2, 1, 0]
    assert await index.found([FIRST + 7, FIRST + 8]) == {FIRST + 7}


async def test_many_documents_are_loaded_and_visible(index) -> None:
    """`bulk_load` is for seeding: more than one request's worth, visible on return."""
    count = await index.bulk_load(document(number, f"seed {number % 7}") for number in range(4_500))
    assert count == 4_500
    assert len((await index.search(Ask(words("seed 3"), 5_000))).hits) == 643
    outcome = await index.index([])
    assert not outcome.refused and not outcome.busy


@pytest.mark.real
async def test_a_refused_document_does_not_affect_the_others(real_settings) -> None:
    """Each item of a bulk has its own status: a 400 is reported with its reason, the rest is indexed."""
    from system.stores.elasticsearch.index import ElasticIndex

    index = await opened(ElasticIndex, real_settings)
    immense = document(1, "#" + "x" * 40_000)
    outcome = await index.index([document(0, "small"), immense, document(2, "small")])
    assert list(outcome.refused) == [FIRST + 1] and "hashtags" in outcome.refused[FIRST + 1]
    assert outcome.busy == ()
    assert await found(index, words("small")) == [2, 0]
    await index.remove()
    await index.close()


@pytest.mark.parametrize(("statuses", "refused", "busy"), [
    ([200, 201, 409], [], []), ([429, 201, 503], [], [0, 2]), ([400, 429, 413], [0, 2], [1]), ([500, 404, 200], [1], [0]),
])
async def test_each_item_of_a_bulk_is_done_refused_or_busy(statuses, refused, busy, real_settings, monkeypatch) -> None:
    """429, 503 and other server errors: busy, to be retried after a pause.

    Errors of the document itself: refused.
    """
    from system.stores.elasticsearch.index import ElasticIndex

    index = await ElasticIndex.open(real_settings)

    async def respond(request):
        request.close()
        return {"items": [{"index": {"status": status, "error": {"type": "some", "reason": "why"}}} for status in statuses]}

    monkeypatch.setattr(index, "_call", respond)
    outcome = await index.index([document(number, "x") for number in range(3)])
    assert sorted(outcome.refused) == [FIRST + number for number in refused]
    assert list(outcome.busy) == [FIRST + number for number in busy]
    await index.close()


async def test_a_load_sends_again_what_a_busy_node_did_not_accept(real_settings, monkeypatch) -> None:
    """Its heap may be full for a moment: the whole request fails, or some documents; the others are not sent again."""
    from system.stores.elasticsearch import index as elastic_index

    index = await elastic_index.ElasticIndex.open(real_settings)
    monkeypatch.setattr(elastic_index, "LOAD_PAUSE_S", 0.0)
    sent: list[list[int]] = []

    async def respond(client, documents):
        sent.append([one.tweet.id - FIRST for one in documents])
        if len(sent) == 1:
            raise StoreUnavailable("429: data too large")
        return Indexed(busy=(FIRST + 1,) if len(sent) == 2 else ())

    monkeypatch.setattr(index, "_write", respond)
    await index._load(index._client, [document(number, "x") for number in range(3)])
    assert sent == [[0, 1, 2], [0, 1, 2], [1]]

    sent.clear()
    monkeypatch.setattr(elastic_index, "LOAD_TRIES", 1)
    with pytest.raises(StoreUnavailable, match="data too large"):
        await index._load(index._client, [document(0, "x")])
    await index.close()


@pytest.mark.real
async def test_an_index_of_another_version_stays_until_it_is_rebuilt(real_settings) -> None:
    """The name carries the version: a search never reads documents of another mapping, and no document is lost."""
    from system.stores.elasticsearch.index import ElasticIndex

    index = await opened(ElasticIndex, real_settings)
    await index.remove()
    mappings = {"dynamic": "strict", "properties": {"id": {"type": "long"}}}
    older = [f"{index._name}-v1", index._name]
    for name in older:
        await index._client.indices.create(index=name, mappings=mappings)
    with pytest.raises(StoreUnavailable, match=r"of another version: `tweetlab down` and `tweetlab up` rebuild it"):
        await index.ready()
    await index.prepare()
    await index.prepare()
    assert await index.older() == sorted(older)
    await index.index([document(0, "new")])
    assert await found(index, words("new")) == [0]
    await index.remove_older()
    assert await index.older() == []
    assert await found(index, words("new")) == [0]
    await index.remove()
    await index.close()


@pytest.mark.real
async def test_a_cluster_without_its_index_is_not_ready(real_settings) -> None:
    """`ready` reports that writes would be refused, and names the index."""
    from system.stores.elasticsearch.index import ElasticIndex

    existing = await opened(ElasticIndex, real_settings)  # skips if no lab answers
    await existing.remove()
    await existing.close()
    index = await ElasticIndex.open(dataclasses.replace(real_settings, namespace="nobody"))
    with pytest.raises(StoreUnavailable, match="nobody-tweets"):
        await index.ready()
    await index.close()


@pytest.mark.real
async def test_a_call_to_an_elasticsearch_that_is_down_fails_definitely(real_settings) -> None:
    """A refused connection is a definite failure that names the address."""
    from system.stores.elasticsearch.index import ElasticIndex

    stores = dataclasses.replace(real_settings.stores, elasticsearch_urls=("http://127.51.60.1:9",))
    index = await ElasticIndex.open(dataclasses.replace(real_settings, stores=stores))
    with pytest.raises(StoreUnavailable, match=r"127\.51\.60\.1:9") as refused:
        await index.search(Ask(words("anything"), 1))
    assert refused.value.definite
    await index.close()


def test_every_error_of_the_client_is_mapped() -> None:
    """Each class that elasticsearch and its transport can raise becomes one of ours."""
    from system.stores.elasticsearch import index as elastic_index

    meta = elastic_transport.ApiResponseMeta(503, "1.1", elastic_transport.HttpHeaders(), 0.1,
                                             elastic_transport.NodeConfig("http", "x", 1))
    classes = {thing for module in (elasticsearch, elastic_transport) for _, thing in inspect.getmembers(module, inspect.isclass)
               if issubclass(thing, Exception) and not issubclass(thing, Warning)}
    caught = (elasticsearch.ApiError, elastic_transport.TransportError)
    assert len(classes) > 8
    for kind in classes:
        if kind is elastic_transport.ApiError:  # the abstract base of elasticsearch.ApiError
            continue
        assert issubclass(kind, caught), kind
        problem = kind("reason", meta, {}) if issubclass(kind, elasticsearch.ApiError) else kind("reason")
        assert isinstance(elastic_index.mapped(problem, "urls"), LabError)
