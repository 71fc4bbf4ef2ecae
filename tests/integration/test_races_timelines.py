"""Races around lists: removals, floors, follows (correctness points 1 to 3), on the real servers, paused at named points."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel import events
from system.ports import Kind
from tests.helpers.races_bench import held
from tests.helpers.services_rig import stored

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


# ---- 1: removal against rebuild --------------------------------------------------------------------------


async def test_an_unfollow_during_a_rebuild_restarts_the_rebuild(bench):
    """Point 1. The rebuild has read the followee's tweets; the unfollow finds a building key. Deleting the key invalidates the
    rebuild's token; removing single members would find none, and the merge would restore them permanently."""
    reader, left, kept = await bench.people(3)
    await bench.follow(reader, left)
    await bench.follow(reader, kept)
    (ghost,), (good,) = await bench.post(left), await bench.post(kept)

    with held("build.home.after_read", owner=reader) as rebuild:
        reading = asyncio.create_task(bench.home(reader))
        await rebuild.reached()
        await bench.unfollow(reader, left)
        rebuild.release()
        shown = await reading

    assert shown == [good]
    assert await bench.listed(reader) == [good]
    assert ghost not in await bench.home(reader)


async def test_an_unfollow_that_resumes_late_loses_no_tweet(bench):
    """Point 1. A worker pauses while it handles the unfollow; others handle unfollow, refollow and back-fill; the first
    resumes. It deletes the whole list, which is rebuilt; removing members from a complete list would lose them."""
    reader, author = await bench.people(2)
    await bench.follow(reader, author)
    posted = await bench.post(author, 3)
    await bench.warm(reader)
    edge = await bench.ports.users.unfollow(reader, author)

    with held("follow.after_edge", following=False) as slow:
        first = asyncio.create_task(bench.handle_edge(edge))
        await slow.reached()
        await bench.handle_edge(edge)
        await bench.follow(reader, author)
        await bench.warm(reader)
        slow.release()
        await first

    assert await bench.home(reader) == posted[::-1]
    assert await bench.listed(reader) == posted[::-1]


async def test_a_follow_that_resumes_late_leaves_no_member(bench):
    """Points 1 and 14. A worker has read 'follows' and pauses; another handles the unfollow; lists are rebuilt; the first
    adds the edge to complete lists. It checks the edge again after its effects, and deletes what is now wrong."""
    reader, author = await bench.people(2)
    edge = await bench.ports.users.follow(reader, author)

    with held("follow.after_edge", following=True) as slow:
        first = asyncio.create_task(bench.handle_edge(edge))
        await slow.reached()
        await bench.unfollow(reader, author)
        await bench.warm(reader)
        await bench.lists().ensure(Kind.FOLLOWERS, author)
        slow.release()
        await first

    assert await bench.ports.timelines.members(Kind.FOLLOWING, reader) in (None, [])
    assert await bench.ports.timelines.members(Kind.FOLLOWERS, author) in (None, [])
    await bench.post(author)
    assert await bench.home(reader) == []


async def test_many_follows_and_unfollows_under_reads_converge_to_the_stored_edges(bench):
    """Point 1, without pauses: 6 readers change 4 edges each 5 times while they read and authors post."""
    readers, authors = await bench.people(6), await bench.people(4)
    for reader in readers:
        for author in authors:
            await bench.ports.users.follow(reader, author)

    async def change(reader: int, author: int) -> None:
        for turn in range(5):
            act = bench.ports.users.unfollow if turn % 2 == 0 else bench.ports.users.follow
            await bench.handle_edge(await act(reader, author))

    async def read(reader: int) -> None:
        for _ in range(8):
            await bench.home(reader)

    changes = [change(reader, author) for reader in readers for author in authors[:3]]
    await asyncio.gather(*changes, *map(read, readers), *(bench.post(author, 4) for author in authors))

    (stays,) = authors[3:]
    wanted = [tweet.id for tweet in await bench.ports.tweets.by_author(stays, None, 100)]
    for reader in readers:
        assert await bench.home(reader) == wanted
        listed = await bench.listed(reader)
        assert [each for each in listed if each in set(wanted)] == wanted


# ---- 2: floors -------------------------------------------------------------------------------------------


async def test_pages_have_no_gap_across_trim_delete_and_back_fill(bench):
    """Point 2. A list of 30 with a floor loses entries by deletes; a follow fills in older tweets of another author. Ids
    below the floor are not added, and a page that reaches the floor continues in Cassandra: no id is skipped."""
    reader, first, second, old = await bench.people(4)
    await bench.post(old, 12)
    for author in (first, second):
        await bench.follow(reader, author)
    await bench.warm(reader)
    posted = await bench.post(first, 28) + await bench.post(second, 28)
    for tweet_id in posted[-20:-10]:
        await bench.tweets().delete(second, tweet_id, "")
        await bench.fanout().tweet_deleted(events.tweet_deleted(tweet_id, second))
    await bench.follow(reader, old)

    wanted = []
    for author in (first, second, old):
        wanted += [tweet.id for tweet in await bench.ports.tweets.by_author(author, None, 1_000) if not tweet.deleted]
    page = await bench.ports.timelines.page(Kind.HOME, reader, None, 1_000)
    assert page is not None and page.floor > 0
    assert await bench.walk(reader, 7) == sorted(wanted, reverse=True)


async def test_a_back_fill_of_a_busy_author_leaves_no_gap(bench):
    """Point 2. The followed author has more tweets than a list can have; tweets that were not read must be below the floor."""
    reader, busy, quiet = await bench.people(3)
    oldest = await bench.post(quiet, 2)
    await bench.follow(reader, quiet)
    await bench.warm(reader)
    posted = [(await stored(bench.ports, busy)).id for _ in range(60)]

    await bench.follow(reader, busy)

    assert await bench.walk(reader, 20) == sorted(oldest + posted, reverse=True)


# ---- 3: follow against post ------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["follow.before_read", "follow.after_read"])
async def test_a_tweet_posted_during_a_back_fill_reaches_the_new_follower(bench, point):
    """Point 3. The follower is in the follower list before the back-fill reads Cassandra: a tweet after that read is
    pushed. If added after the read, a tweet in between would be neither read nor pushed."""
    reader, author = await bench.people(2)
    await bench.warm(reader)
    await bench.lists().ensure(Kind.FOLLOWERS, author)
    edge = await bench.ports.users.follow(reader, author)

    with held(point, followee=author) as filling:
        following = asyncio.create_task(bench.handle_edge(edge))
        await filling.reached()
        (tweet,) = await bench.post(author)
        filling.release()
        await following

    assert await bench.listed(reader) == [tweet]


async def test_a_follower_list_lost_between_two_chunks_loses_no_delivery(bench):
    """Point 3. The follower list is lost after the first chunk, and exists again with a new, lower follower before the
    second. The token shows that, and the event restarts; continuing above `after` would skip that follower."""
    early, *followers, author = await bench.people(14)
    for follower in followers:
        await bench.follow(follower, author)
    await bench.warm(early, *followers)
    await bench.lists().ensure(Kind.FOLLOWERS, author)
    tweet = await stored(bench.ports, author)

    with held("fanout.between_chunks", author_id=author) as scan:
        pushing = asyncio.create_task(bench.fanout().new_tweet(events.new_tweet(tweet)))
        await scan.reached()
        await bench.ports.timelines.drop([(Kind.FOLLOWERS, author)])
        await bench.ports.users.follow(early, author)
        await bench.lists().ensure(Kind.FOLLOWERS, author)
        scan.release()
        done = await pushing

    assert done.retries >= 1
    for follower in [early, *followers]:
        assert await bench.listed(follower) == [tweet.id]


async def test_losing_all_lists_between_two_chunks_loses_no_delivery(bench):
    """Point 3. The whole cache is lost after the first chunk, and some timelines are rebuilt from an earlier read; the scan
    must not end early."""
    *followers, author = await bench.people(13)
    for follower in followers:
        await bench.follow(follower, author)
    await bench.warm(*followers)
    await bench.lists().ensure(Kind.FOLLOWERS, author)
    tweet = await stored(bench.ports, author)

    with held("fanout.between_chunks", author_id=author) as scan:
        pushing = asyncio.create_task(bench.fanout().new_tweet(events.new_tweet(tweet)))
        await scan.reached()
        await bench.ports.timelines.clear()
        for follower in followers:  # an empty, complete list: the state after a rebuild that read just before the post
            token = await bench.ports.timelines.begin(Kind.HOME, follower)
            await bench.ports.timelines.complete(Kind.HOME, follower, token, [], 0)
        scan.release()
        done = await pushing

    assert done.targets == len(followers)
    for follower in followers:
        assert await bench.home(follower) == [tweet.id]
