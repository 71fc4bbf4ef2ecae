"""SearchIndex: words, order, versions and deleted tweets."""

from __future__ import annotations

import dataclasses
import inspect

import elastic_transport
import elasticsearch
import pytest

from system.kernel.errors import LabError, StoreUnavailable
from system.kernel.events import Tweet
from system.ports import Document
from tests.contract.conftest import opened

FIRST = 2_100_000_000_000_000_001  # far above 2^53: an id that a double does not hold


def document(number: int, text: str, version: int = 1, deleted: bool = False) -> Document:
    tweet = Tweet(FIRST + number, 42, text, 1_800_000_000_000, FIRST + number, deleted=deleted)
    return Document(tweet, version)


async def found(index, query: str, before: int | None = None, limit: int = 10) -> list[int]:
    await index.refresh()
    return [tweet_id - FIRST for tweet_id in await index.search(query, before, limit)]


async def test_all_words_must_stand_in_a_tweet(index) -> None:
    """Words are AND-ed, whatever their case and order; hashtags are found by their word."""
    await index.index([document(0, "Hello brave world"), document(1, "hello #World!"), document(2, "hello")])
    assert await found(index, "WORLD hello") == [1, 0]
    assert await found(index, "#world") == [1, 0]
    assert await found(index, "hello") == [2, 1, 0]
    assert await found(index, "hello moon") == []
    assert await found(index, "!?") == []


async def test_pages_go_from_the_newest_to_older_without_overlap(index) -> None:
    """Neighbouring 64-bit ids are told apart by the cursor."""
    await index.index([document(number, "same words") for number in range(5)])
    assert await found(index, "words", None, 2) == [4, 3]
    assert await found(index, "words", FIRST + 3, 2) == [2, 1]
    assert await found(index, "words", FIRST + 1, 2) == [0]
    assert await found(index, "words", FIRST, 2) == []


async def test_an_older_version_never_overwrites_a_newer_one(index) -> None:
    """The newest reading of the truth wins, in whatever order they come; equal versions may repeat."""
    await index.index([document(0, "second", version=2)])
    await index.index([document(0, "first", version=1), document(1, "first", version=1)])
    await index.index([document(0, "second", version=2)])
    assert await found(index, "first") == [1]
    assert await found(index, "second") == [0]


async def test_a_late_write_does_not_revive_a_deleted_tweet(index) -> None:
    """Correctness point 12: a deleted tweet stays as a document, so its version is not forgotten."""
    await index.index([document(0, "oops", version=1)])
    await index.index([document(0, "oops", version=3, deleted=True)])
    await index.index([document(0, "oops", version=2)])
    assert await found(index, "oops") == []


async def test_many_documents_are_loaded_and_visible(index) -> None:
    """`bulk_load` is for seeding: more than one request's worth, visible on return."""
    count = await index.bulk_load(document(number, f"seed {number % 7}") for number in range(4_500))
    assert count == 4_500
    assert len(await index.search("seed 3", None, 5_000)) == 643
    await index.index([])


@pytest.mark.real
async def test_a_cluster_without_its_index_is_not_ready(real_settings) -> None:
    """`ready` tells that writes would be refused, and names the index."""
    from system.stores.elastic_index import ElasticIndex

    stands = await opened(ElasticIndex, real_settings)  # or skips, where no lab answers
    await stands.remove()
    await stands.close()
    index = await ElasticIndex.open(dataclasses.replace(real_settings, namespace="nobody"))
    with pytest.raises(StoreUnavailable, match="nobody-tweets"):
        await index.ready()
    await index.close()


@pytest.mark.real
async def test_an_elasticsearch_that_is_down_certainly_did_nothing(real_settings) -> None:
    """A refused connection is a definite failure with the address in it."""
    from system.stores.elastic_index import ElasticIndex

    stores = dataclasses.replace(real_settings.stores, elasticsearch_urls=("http://127.51.60.1:9",))
    index = await ElasticIndex.open(dataclasses.replace(real_settings, stores=stores))
    with pytest.raises(StoreUnavailable, match=r"127\.51\.60\.1:9") as refused:
        await index.search("anything", None, 1)
    assert refused.value.definite
    await index.close()


def test_every_error_of_the_client_is_mapped() -> None:
    """Each class that elasticsearch and its transport can raise becomes one of ours."""
    from system.stores import elastic_index

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
