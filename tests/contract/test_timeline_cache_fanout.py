"""TimelineCache: fan-out in chunks and the merged home read. Cap 5, slack 2, chunk 3 (conftest.SMALL)."""

from __future__ import annotations

from system.ports import Entry, HomePage, Kind
from tests.helpers.cached_lists import ADA, BOB, CLEO, DAN, EVE, build, follow, numbers, tweet

CROWD = [5, 12, 99, 1_000, 1_001, DAN, EVE]  # seven followers: chunks of 3, 3 and 1


async def test_a_chunk_pushes_to_the_next_live_timelines(timelines) -> None:
    """Three calls reach seven followers, whatever the length of their ids; timelines that are not live are skipped."""
    await build(timelines, Kind.FOLLOWERS, BOB, [Entry(user, 0) for user in CROWD])
    for user in (5, 99, 1_001, DAN):
        await build(timelines, Kind.HOME, user, [tweet(1)])
    await timelines.begin(Kind.HOME, EVE)

    first = await timelines.push_chunk(BOB, tweet(2), 0, None)
    second = await timelines.push_chunk(BOB, tweet(2), first.last, first.token)
    third = await timelines.push_chunk(BOB, tweet(2), second.last, first.token)

    assert [(c.status, c.last, c.pushed, c.skipped) for c in (first, second, third)] == [
        ("more", 99, 2, 1), ("more", DAN, 2, 1), ("done", EVE, 1, 0)]
    for user in (5, 99, 1_001, DAN):
        assert numbers((await timelines.page(Kind.HOME, user, None, 9)).entries) == [2, 1]


async def test_a_list_that_ends_with_a_chunk_is_done(timelines) -> None:
    """No empty call follows; an empty list is done immediately."""
    await build(timelines, Kind.FOLLOWERS, BOB, [Entry(user, 0) for user in CROWD[:3]])
    await build(timelines, Kind.FOLLOWERS, CLEO)
    assert (await timelines.push_chunk(BOB, tweet(2), 0, None)).status == "done"
    assert (await timelines.push_chunk(CLEO, tweet(2), 0, None)).status == "done"


async def test_a_chunk_of_a_list_that_is_not_complete_is_absent(timelines) -> None:
    """Absent and building lists alike: the caller reads the followers from PostgreSQL."""
    assert (await timelines.push_chunk(BOB, tweet(1), 0, None)).status == "absent"
    await timelines.begin(Kind.FOLLOWERS, BOB)
    assert (await timelines.push_chunk(BOB, tweet(1), 0, None)).status == "absent"
    assert (await timelines.remove_tweet_chunk(BOB, tweet(1), 0)).status == "absent"


async def test_a_list_rebuilt_between_two_chunks_is_detected(timelines) -> None:
    """Correctness point 3: a change of the list's token restarts the event."""
    await build(timelines, Kind.FOLLOWERS, BOB, [Entry(user, 0) for user in CROWD])
    first = await timelines.push_chunk(BOB, tweet(1), 0, None)
    await timelines.drop([(Kind.FOLLOWERS, BOB)])
    assert (await timelines.push_chunk(BOB, tweet(1), first.last, first.token)).status == "absent"
    await build(timelines, Kind.FOLLOWERS, BOB, [Entry(5, 0)])
    second = await timelines.push_chunk(BOB, tweet(1), first.last, first.token)
    assert (second.status, second.pushed) == ("changed", 0)


async def test_a_deleted_tweet_is_removed_chunk_by_chunk(timelines) -> None:
    """Removal iterates over the followers as the push does."""
    await build(timelines, Kind.FOLLOWERS, BOB, [Entry(user, 0) for user in CROWD[:4]])
    for user in CROWD[:4]:
        await build(timelines, Kind.HOME, user, [tweet(1), tweet(2)])
    removed, chunk = 0, await timelines.remove_tweet_chunk(BOB, tweet(1), 0)
    while chunk.status == "more":
        removed, chunk = removed + chunk.pushed, await timelines.remove_tweet_chunk(BOB, tweet(1), chunk.last)
    assert (chunk.status, removed + chunk.pushed, chunk.last) == ("done", 4, 1_000)
    assert numbers((await timelines.page(Kind.HOME, 1_000, None, 9)).entries) == [2]


async def reader(timelines, *followees: int) -> None:
    await follow(timelines, ADA, *followees)
    await build(timelines, Kind.AUTHOR, ADA)


async def test_a_home_read_names_every_missing_list(timelines) -> None:
    """Absent and building lists are named, and nothing is shown of the others."""
    page = await timelines.home(ADA, [CLEO], None, 10)
    assert isinstance(page, HomePage)
    assert set(page.missing) == {(Kind.HOME, ADA), (Kind.AUTHOR, ADA), (Kind.FOLLOWING, ADA)}
    await reader(timelines, BOB, CLEO)
    await timelines.begin(Kind.HOME, ADA)
    page = await timelines.home(ADA, [CLEO, DAN], None, 10)
    assert set(page.missing) == {(Kind.HOME, ADA), (Kind.AUTHOR, CLEO)}
    assert page.entries == ()


async def test_a_home_read_merges_own_and_pulled_tweets_by_id(timelines) -> None:
    """Three sources, newest first, each tweet once; a pulled author who is not followed is not merged."""
    await follow(timelines, ADA, BOB, CLEO)
    await build(timelines, Kind.HOME, ADA, [tweet(1), tweet(4), tweet(6, ADA)])
    await build(timelines, Kind.AUTHOR, ADA, [tweet(3, ADA), tweet(6, ADA)])
    await build(timelines, Kind.AUTHOR, CLEO, [tweet(2, CLEO), tweet(5, CLEO)])
    await build(timelines, Kind.AUTHOR, DAN, [tweet(7, DAN)])
    page = await timelines.home(ADA, [CLEO, DAN], None, 10)
    assert numbers(page.entries) == [6, 5, 4, 3, 2, 1]
    assert [entry.author_id for entry in page.entries] == [ADA, CLEO, BOB, ADA, CLEO, BOB]
    assert (page.pulled, page.exhausted, page.floor, page.scanned, page.missing) == (True, True, 0, 0, ())
    assert (await timelines.home(ADA, [DAN], None, 10)).pulled is False


async def test_a_home_read_drops_authors_who_are_not_followed(timelines) -> None:
    """Correctness point 4: a push that arrives after the unfollow is never shown; pages still fill."""
    await reader(timelines, BOB, EVE)
    await build(timelines, Kind.HOME, ADA, [tweet(1), tweet(2, DAN), tweet(3, EVE), tweet(4, DAN), tweet(5)])
    page = await timelines.home(ADA, [], None, 2)
    assert (numbers(page.entries), page.exhausted, page.scanned) == ([5, 3], False, tweet(3, EVE).id)
    page = await timelines.home(ADA, [], page.scanned, 2)
    assert (numbers(page.entries), page.exhausted, page.scanned) == ([1], True, 0)


async def test_home_pages_are_filled_across_long_runs_of_hidden_tweets(timelines) -> None:
    """Reading continues until the page is full or every source is exhausted, over several slices."""
    await follow(timelines, ADA, BOB)
    token = await timelines.begin(Kind.HOME, ADA)
    await build(timelines, Kind.AUTHOR, ADA, [tweet(0, ADA)])
    await timelines.complete(Kind.HOME, ADA, token, [tweet(n, DAN if 1 < n < 5 else BOB) for n in range(1, 6)], 0)
    first = await timelines.home(ADA, [], None, 1)
    second = await timelines.home(ADA, [], first.scanned, 1)
    third = await timelines.home(ADA, [], second.scanned, 1)
    assert [numbers(p.entries) for p in (first, second, third)] == [[5], [1], [0]]
    assert [p.exhausted for p in (first, second, third)] == [False, False, True]


async def test_a_home_read_ends_at_the_highest_floor_of_its_sources(timelines) -> None:
    """Below the floor of any source the merge would have gaps: older tweets are read from Cassandra."""
    await follow(timelines, ADA, BOB, CLEO)
    await build(timelines, Kind.HOME, ADA, [tweet(n) for n in (1, 3, 5)])
    await build(timelines, Kind.AUTHOR, ADA, [])
    await build(timelines, Kind.AUTHOR, CLEO, [tweet(4, CLEO)], floor=tweet(3).id)
    page = await timelines.home(ADA, [CLEO], None, 10)
    assert (numbers(page.entries), page.floor, page.scanned) == ([5, 4, 3], tweet(3).id, tweet(3).id)
    assert page.exhausted
    below = await timelines.home(ADA, [CLEO], tweet(2).id, 10)
    assert (below.entries, below.scanned, below.exhausted) == ((), tweet(2).id, True)


async def test_home_pages_have_no_gap_or_overlap(timelines) -> None:
    """Any page size yields the same timeline."""
    await follow(timelines, ADA, BOB, CLEO)
    await build(timelines, Kind.HOME, ADA, [tweet(n) for n in (10, 20, 30, 40, 50)])
    await build(timelines, Kind.AUTHOR, ADA, [tweet(n, ADA) for n in (15, 25, 26)])
    await build(timelines, Kind.AUTHOR, CLEO, [tweet(n, CLEO) for n in (11, 12, 13, 14, 45)])
    for size in (1, 2, 3, 13, 14):
        shown, before, exhausted = [], None, False
        while not exhausted:
            page = await timelines.home(ADA, [CLEO], before, size)
            shown, before, exhausted = shown + numbers(page.entries), page.scanned, page.exhausted
        assert shown == [50, 45, 40, 30, 26, 25, 20, 15, 14, 13, 12, 11, 10], f"pages of {size}"
