"""SearchIndex: a deletion is never undone, and no clock can make a live document win over it."""

from __future__ import annotations

import time

from tests.helpers.search_fixtures import FIRST, document, found, words

DAY_NS = 86_400 * 10**9


async def test_a_deletion_wins_over_a_live_document_from_the_future(index) -> None:
    """The clock stepped back by a day between the two: the version alone would keep the tweet in the index for a day."""
    now_ns = time.time_ns()
    await index.index([document(0, "walrus", version=now_ns + DAY_NS)])
    assert await found(index, words("walrus")) == [0]

    outcome = await index.index([document(0, "walrus", version=now_ns, deleted=True)])

    assert not outcome.refused and not outcome.busy
    assert await found(index, words("walrus")) == []
    assert await index.found([FIRST]) == set()


async def test_a_live_version_from_the_future_does_not_undo_a_deletion(index) -> None:
    """An indexer read the tweet before the clock stepped back, and paused in between."""
    now_ns = time.time_ns()
    await index.index([document(0, "walrus", version=now_ns, deleted=True)])

    await index.index([document(0, "walrus", version=now_ns + DAY_NS)])

    assert await found(index, words("walrus")) == []


async def test_deleted_documents_are_swept_by_the_time_of_their_deletion(index) -> None:
    """The offset that makes a deleted version win does not count."""
    now_ns = time.time_ns()
    await index.index([document(0, "x", version=now_ns - DAY_NS, deleted=True), document(1, "x", version=now_ns, deleted=True)])
    await index.refresh()

    assert await index.sweep(now_ns // 1_000_000 - 3_600_000, 10) == 1
    await index.refresh()
    assert await index.sweep(now_ns // 1_000_000 - 3_600_000, 10) == 0
