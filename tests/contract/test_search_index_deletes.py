"""SearchIndex: a deletion is never taken back, and no clock can make a live document win over it."""

from __future__ import annotations

import time

from tests.helpers.search_fixtures import FIRST, document, found, words

DAY_NS = 86_400 * 10**9


async def test_a_deletion_wins_over_a_live_document_from_the_future(index) -> None:
    """The clock stepped back by a day between the two: the version alone would keep the tweet in the index for a day."""
    now_ns = time.time_ns()
    await index.index([document(0, "walrus", version=now_ns + DAY_NS)])
    assert await found(index, words("walrus")) == [0]

    told = await index.index([document(0, "walrus", version=now_ns, deleted=True)])

    assert not told.refused and not told.busy
    assert await found(index, words("walrus")) == []
    assert await index.found([FIRST]) == set()


async def test_a_live_reading_from_the_future_does_not_take_a_deletion_back(index) -> None:
    """It was made before the clock stepped back, by an indexer that slept meanwhile."""
    now_ns = time.time_ns()
    await index.index([document(0, "walrus", version=now_ns, deleted=True)])

    await index.index([document(0, "walrus", version=now_ns + DAY_NS)])

    assert await found(index, words("walrus")) == []


async def test_what_was_deleted_is_swept_by_the_time_it_was_found_so(index) -> None:
    """Whatever stands before the version to make it win."""
    now_ns = time.time_ns()
    await index.index([document(0, "x", version=now_ns - DAY_NS, deleted=True), document(1, "x", version=now_ns, deleted=True)])
    await index.refresh()

    assert await index.sweep(now_ns // 1_000_000 - 3_600_000, 10) == 1
    await index.refresh()
    assert await index.sweep(now_ns // 1_000_000 - 3_600_000, 10) == 0
