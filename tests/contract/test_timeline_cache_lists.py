"""TimelineCache: how lists are built, grow, are trimmed, read and dropped.

Cap 5, slack 2, chunk 3 (conftest.SMALL).
"""

from __future__ import annotations

import asyncio

import pytest

from system.kernel import ids
from system.ports import IS_COMPLETE, Entry, Kind
from tests.helpers.cached_lists import ADA, BOB, CLEO, DAN, EVE, build, numbers, tweet


async def test_a_list_that_nobody_built_is_absent(timelines) -> None:
    """Only `begin` creates a list; reads, pushes and additions find nothing."""
    assert await timelines.page(Kind.HOME, ADA, None, 10) is None
    assert await timelines.members(Kind.FOLLOWERS, ADA) is None
    assert await timelines.push(tweet(1), [ADA]) == (0, 1)
    assert await timelines.back_fill(ADA, [tweet(1)]) is False
    assert await timelines.add_member(Kind.FOLLOWERS, ADA, BOB) is False
    assert await timelines.page(Kind.HOME, ADA, None, 10) is None


async def test_one_rebuild_owns_a_list(timelines) -> None:
    """`begin` returns a token to the first caller, None while the list is being built, IS_COMPLETE once it is complete."""
    token = await timelines.begin(Kind.HOME, ADA)
    assert await timelines.begin(Kind.HOME, ADA) is None
    assert await timelines.page(Kind.HOME, ADA, None, 10) is None
    assert await timelines.complete(Kind.HOME, ADA, token, [tweet(1)], 0)
    assert await timelines.begin(Kind.HOME, ADA) == IS_COMPLETE
    assert not await timelines.complete(Kind.HOME, ADA, token, [tweet(2)], 0)
    assert numbers((await timelines.page(Kind.HOME, ADA, None, 10)).entries) == [1]


async def test_an_abandoned_rebuild_expires(timelines) -> None:
    """A building mark expires after `building_ttl_s`; then another may begin; the old token is invalid."""
    old = await timelines.begin(Kind.HOME, ADA)
    await asyncio.sleep(0.5)
    new = await timelines.begin(Kind.HOME, ADA)
    assert new is not None
    assert not await timelines.complete(Kind.HOME, ADA, old, [tweet(1)], 0)
    assert await timelines.complete(Kind.HOME, ADA, new, [tweet(2)], 0)
    await asyncio.sleep(0.5)
    assert numbers((await timelines.page(Kind.HOME, ADA, None, 10)).entries) == [2]


@pytest.mark.parametrize("kind", [Kind.HOME, Kind.FOLLOWING])
async def test_a_drop_invalidates_the_token_of_a_running_rebuild(timelines, kind: Kind) -> None:
    """Correctness point 1: a removal deletes the key, so the rebuild that read before it writes nothing."""
    stale = await timelines.begin(kind, ADA)
    await timelines.drop([(kind, ADA)])
    assert not await timelines.complete(kind, ADA, stale, [tweet(1)], 0)
    fresh = await timelines.begin(kind, ADA)
    assert not await timelines.complete(kind, ADA, stale, [tweet(1)], 0)
    assert await timelines.complete(kind, ADA, fresh, [], 0)


async def test_tweets_pushed_while_a_list_is_building_are_kept(timelines) -> None:
    """`complete` merges them with the tweets that the rebuild read, each tweet once."""
    token = await timelines.begin(Kind.HOME, ADA)
    assert await timelines.push(tweet(3), [ADA, BOB]) == (1, 1)
    assert await timelines.push(tweet(2), [ADA]) == (1, 0)
    await timelines.complete(Kind.HOME, ADA, token, [tweet(1), tweet(2)], 0)
    assert numbers((await timelines.page(Kind.HOME, ADA, None, 10)).entries) == [3, 2, 1]


async def test_a_push_is_inserted_in_order_and_once(timelines) -> None:
    """A repeat changes nothing; a late tweet is inserted by id."""
    await build(timelines, Kind.HOME, ADA, [tweet(2), tweet(4)])
    for number in (6, 3, 6, 3, 2):
        assert await timelines.push(tweet(number), [ADA]) == (1, 0)
    assert numbers((await timelines.page(Kind.HOME, ADA, None, 10)).entries) == [6, 4, 3, 2]


async def test_a_late_push_is_inserted_deep_in_a_long_list(real_settings, timelines) -> None:
    """Order holds however late a tweet arrives (lists longer than the newest 128 records)."""
    token = await timelines.begin(Kind.HOME, ADA)
    for number in range(0, 600, 2):
        await timelines.push(tweet(number), [ADA])
    for number in (599, 501, 251, 1):
        await timelines.push(tweet(number), [ADA])
        await timelines.push(tweet(number), [ADA])
    await timelines.complete(Kind.HOME, ADA, token, [], tweet(1).id)
    await timelines.drop([(Kind.HOME, ADA)])
    await build(timelines, Kind.HOME, ADA, [tweet(n) for n in range(0, 20, 4)])
    await timelines.push(tweet(5), [ADA])
    assert numbers((await timelines.page(Kind.HOME, ADA, None, 10)).entries) == [16, 12, 8, 5, 4, 0]


async def test_a_trim_raises_the_floor_to_the_lowest_id_kept(timelines) -> None:
    """Correctness point 2: above cap + slack the oldest are removed, and the floor rises."""
    await build(timelines, Kind.HOME, ADA, [tweet(n) for n in range(1, 6)])
    for number in (6, 7):
        await timelines.push(tweet(number), [ADA])
    before_trim = await timelines.page(Kind.HOME, ADA, None, 10)
    await timelines.push(tweet(8), [ADA])
    after_trim = await timelines.page(Kind.HOME, ADA, None, 10)
    assert (numbers(before_trim.entries), before_trim.floor) == ([7, 6, 5, 4, 3, 2, 1], 0)
    assert (numbers(after_trim.entries), after_trim.floor) == ([8, 7, 6, 5, 4], tweet(4).id)
    assert after_trim.exhausted and after_trim.scanned == tweet(4).id


async def test_a_list_completed_with_too_much_keeps_the_newest(timelines) -> None:
    """`complete` trims to the cap and raises the given floor."""
    await build(timelines, Kind.HOME, ADA, [tweet(n) for n in range(1, 10)], floor=tweet(1).id)
    page = await timelines.page(Kind.HOME, ADA, None, 10)
    assert (numbers(page.entries), page.floor) == ([9, 8, 7, 6, 5], tweet(5).id)


async def test_a_list_shrunk_by_deletes_never_accepts_ids_below_its_floor(timelines) -> None:
    """Correctness point 2: after trim, deletes and back-fill, nothing older than the floor leaves a gap."""
    await build(timelines, Kind.HOME, ADA, [tweet(n) for n in range(10, 20)])
    for number in (17, 18, 19):
        await timelines.remove_tweet(tweet(number), [ADA])
    assert await timelines.back_fill(ADA, [tweet(1, CLEO), tweet(2, CLEO), tweet(16, CLEO), tweet(18, CLEO)])
    await timelines.push(tweet(3), [ADA])
    page = await timelines.page(Kind.HOME, ADA, None, 10)
    assert (numbers(page.entries), page.floor, page.exhausted) == ([18, 16, 15], tweet(15).id, True)


async def test_a_back_fill_is_trimmed_like_a_push(timelines) -> None:
    """Of many old tweets of a new followee the newest stay, and the floor rises."""
    await build(timelines, Kind.HOME, ADA, [tweet(20), tweet(22)])
    assert await timelines.back_fill(ADA, [tweet(n, CLEO) for n in range(15, 24)])
    page = await timelines.page(Kind.HOME, ADA, None, 10)
    assert (numbers(page.entries), page.floor) == ([23, 22, 21, 20, 19], tweet(19).id)


async def test_ids_below_the_given_floor_are_left_out(timelines) -> None:
    """A rebuild with read limits completes a list only for ids from its floor upward."""
    token = await timelines.begin(Kind.AUTHOR, BOB)
    await timelines.push(tweet(9), [ADA])
    await timelines.complete(Kind.AUTHOR, BOB, token, [tweet(1), tweet(2), tweet(3)], tweet(2).id)
    page = await timelines.page(Kind.AUTHOR, BOB, None, 10)
    assert (numbers(page.entries), page.floor) == ([3, 2], tweet(2).id)


async def test_pages_are_disjoint_ordered_and_gap_free_within_one_millisecond(timelines) -> None:
    """Cursors are exact to the id, even if hundreds of ids share a millisecond."""
    crowd = [Entry(ids.compose(1_800_000_000_000, worker, 5), BOB) for worker in (3, 1, 2, 1023, 0)]
    await build(timelines, Kind.HOME, ADA, crowd)
    shown, before = [], None
    for _ in range(3):
        page = await timelines.page(Kind.HOME, ADA, before, 2)
        shown, before = shown + [entry.id for entry in page.entries], page.scanned
    assert shown == sorted((entry.id for entry in crowd), reverse=True)
    assert page.exhausted and page.scanned == 0


async def test_a_page_below_the_floor_is_empty_and_keeps_the_cursor(timelines) -> None:
    """Tweets older than the floor are read from Cassandra: the page shows where it stopped."""
    await build(timelines, Kind.HOME, ADA, [tweet(5)], floor=tweet(4).id)
    page = await timelines.page(Kind.HOME, ADA, tweet(2).id, 10)
    assert (page.entries, page.exhausted, page.scanned, page.floor) == ((), True, tweet(2).id, tweet(4).id)


async def test_many_lists_are_read_in_one_call_without_incomplete_ones(timelines) -> None:
    """`pages` omits lists that are absent or building."""
    await build(timelines, Kind.AUTHOR, ADA, [tweet(1, ADA), tweet(2, ADA)])
    await build(timelines, Kind.AUTHOR, CLEO, [])
    await timelines.begin(Kind.AUTHOR, BOB)
    pages = await timelines.pages(Kind.AUTHOR, [ADA, BOB, CLEO, DAN], None, 1)
    assert {owner: numbers(page.entries) for owner, page in pages.items()} == {ADA: [2], CLEO: []}
    assert [pages[ADA].exhausted, pages[CLEO].exhausted] == [False, True]
    assert await timelines.pages(Kind.AUTHOR, [], None, 1) == {}


async def test_members_are_all_users_ascending(timelines) -> None:
    """Sets of users are read in full, with members added later; ids above 2^53 stay distinct."""
    await build(timelines, Kind.FOLLOWERS, ADA, [Entry(user, 0) for user in (EVE, CLEO, BOB)])
    assert await timelines.add_member(Kind.FOLLOWERS, ADA, DAN)
    assert await timelines.add_member(Kind.FOLLOWERS, ADA, DAN)
    assert await timelines.members(Kind.FOLLOWERS, ADA) == [BOB, CLEO, DAN, EVE]


async def test_a_member_added_while_a_set_is_building_is_kept(timelines) -> None:
    """Correctness point 3: the follow consumer adds to a building list, too."""
    token = await timelines.begin(Kind.FOLLOWING, ADA)
    assert await timelines.add_member(Kind.FOLLOWING, ADA, EVE)
    assert await timelines.members(Kind.FOLLOWING, ADA) is None
    assert await timelines.complete(Kind.FOLLOWING, ADA, token, [Entry(BOB, 0)], 0)
    assert await timelines.members(Kind.FOLLOWING, ADA) == [BOB, EVE]


async def test_a_large_set_of_users_is_written_and_read_in_full(timelines) -> None:
    """Sets larger than one call of each kind (4,000 written, 10,000 read)."""
    users = list(range(1, 23_001, 2))
    await build(timelines, Kind.FOLLOWERS, ADA, [Entry(user, 0) for user in users])
    assert await timelines.members(Kind.FOLLOWERS, ADA) == users


async def test_an_own_tweet_is_added_to_both_lists_of_its_author(timelines) -> None:
    """`add_own` adds to live lists and creates none."""
    await build(timelines, Kind.HOME, BOB)
    await timelines.add_own(tweet(1))
    assert await timelines.page(Kind.AUTHOR, BOB, None, 10) is None
    await build(timelines, Kind.AUTHOR, BOB)
    await timelines.add_own(tweet(1))
    await timelines.add_own(tweet(2))
    assert numbers((await timelines.page(Kind.HOME, BOB, None, 10)).entries) == [2, 1]
    assert numbers((await timelines.page(Kind.AUTHOR, BOB, None, 10)).entries) == [2, 1]


async def test_a_deleted_tweet_is_removed_from_lists_of_author_and_readers(timelines) -> None:
    """`remove_tweet` removes exactly one id; a repeat and an absent list change nothing."""
    for kind, owner in ((Kind.HOME, BOB), (Kind.AUTHOR, BOB), (Kind.HOME, ADA)):
        await build(timelines, kind, owner, [tweet(1), tweet(2), tweet(3)])
    for _ in range(2):
        await timelines.remove_tweet(tweet(2), [ADA, CLEO])
    for kind, owner in ((Kind.HOME, BOB), (Kind.AUTHOR, BOB), (Kind.HOME, ADA)):
        assert numbers((await timelines.page(kind, owner, None, 10)).entries) == [3, 1]


async def test_seeded_lists_are_complete(timelines) -> None:
    """`seed` writes lists in the state in which a rebuild leaves them."""
    await timelines.seed(Kind.HOME, {ADA: [tweet(1), tweet(2)], BOB: []}, floor=tweet(1).id)
    await timelines.seed(Kind.FOLLOWING, {ADA: [Entry(EVE, 0), Entry(BOB, 0)]})
    page = await timelines.page(Kind.HOME, ADA, None, 10)
    assert (numbers(page.entries), page.floor) == ([2, 1], tweet(1).id)
    assert await timelines.push(tweet(3), [ADA, BOB, CLEO]) == (2, 1)
    assert await timelines.members(Kind.FOLLOWING, ADA) == [BOB, EVE]
