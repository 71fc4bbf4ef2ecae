"""TweetCache: fills never overwrite, and a deleted marker wins."""

from __future__ import annotations

import dataclasses

from system.kernel.events import Tweet

COVFEFE = Tweet(2_100_000_000_000_000_001, 42, "Despite the »constant« press 🐦", 1_800_000_000_000, 2_100_000_000_000_000_001,
                None, ("m1", "m2"))
REPLY = Tweet(2_100_000_000_000_000_002, 43, "", 1_800_000_000_001, COVFEFE.id, COVFEFE.id)


async def test_a_filled_tweet_is_read_back_as_it_was(hot) -> None:
    """Every field survives; ids that are not cached are left out."""
    await hot.fill([COVFEFE, REPLY])
    assert await hot.get([REPLY.id, 5, COVFEFE.id]) == {COVFEFE.id: COVFEFE, REPLY.id: REPLY}
    assert await hot.get([]) == {}
    await hot.fill([])


async def test_a_late_fill_does_not_revive_a_deleted_tweet(hot) -> None:
    """Correctness point 12: read while live, delete, fill late: the marker remains."""
    await hot.fill([COVFEFE])
    await hot.mark_deleted(COVFEFE.id)
    await hot.fill([COVFEFE])
    assert await hot.get([COVFEFE.id]) == {COVFEFE.id: None}


async def test_a_fill_with_a_deleted_tweet_sets_the_marker(hot) -> None:
    """A tweet that is deleted in the tweet store becomes deleted in the cache, whatever was cached before."""
    await hot.fill([REPLY])
    await hot.fill([dataclasses.replace(REPLY, deleted=True)])
    assert await hot.get([REPLY.id]) == {REPLY.id: None}


async def test_a_fill_never_overwrites(hot) -> None:
    """SET NX: the first fill remains until it expires."""
    await hot.fill([REPLY])
    await hot.fill([dataclasses.replace(REPLY, text="edited")])
    assert (await hot.get([REPLY.id]))[REPLY.id] == REPLY
