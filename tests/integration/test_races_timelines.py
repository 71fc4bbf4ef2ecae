"""Races around cached timelines (correctness points 1 to 8), on the real servers, each held at its named point."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from system.kernel import events
from system.kernel.errors import Overloaded
from system.kernel.http import Spent
from system.ports import Kind, Mode
from system.services.tweets.policy import Draft
from tests.integration.races_bench import Swapped, held, newest, with_knobs
from tests.integration.services_rig import stored, until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


# ---- 1: removal against rebuild --------------------------------------------------------------------------


async def test_an_unfollow_during_a_rebuild_makes_the_rebuild_start_again(bench):
    """Point 1. The rebuild has read the followee's tweets; the unfollow finds a building key. Deleting the key takes the
    rebuild's token; purging single members would find nothing, and the merge would bring them back for good."""
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


async def test_an_unfollow_that_wakes_late_costs_no_tweet(bench):
    """Point 1. A worker pauses while it holds the unfollow; others handle unfollow, refollow and back-fill; the first
    wakes. It deletes the whole list, which is rebuilt; taking single members out of a complete list would lose them."""
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


async def test_a_follow_that_wakes_late_leaves_no_member(bench):
    """Points 1 and 14. A worker has read 'follows' and pauses; another handles the unfollow; lists are rebuilt; the first
    adds the edge to complete lists. It looks at the edge again after its effects, and deletes what it made wrong."""
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


async def test_many_follows_and_unfollows_under_reads_end_where_the_truth_ends(bench):
    """Point 1, without a held point: 6 readers change 4 edges each 5 times while they read and authors post."""
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
    below the floor are not added, and a page that reaches the floor goes on in Cassandra: no id is skipped."""
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
    """Point 2. The followed author has more tweets than a list holds; what was not read must lie below the floor."""
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
    """Point 3. The follower stands in the follower list before the back-fill reads Cassandra: a tweet that was read too
    early is pushed. Added after the read instead, the tweet in between would be neither read nor pushed."""
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


async def test_a_follower_list_lost_between_two_chunks_costs_no_delivery(bench):
    """Point 3. The follower list is gone after the first chunk, and stands again with a new, lower follower before the
    second. The token tells, and the event starts again; going on above `after`, it would miss him."""
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


async def test_losing_all_lists_between_two_chunks_costs_no_delivery(bench):
    """Point 3. Everything in the cache is lost after the first chunk, and some timelines are rebuilt from a read that began
    before; the scan must not end early."""
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


# ---- 4: unfollow against fan-out in flight ---------------------------------------------------------------


async def test_a_push_that_lands_after_an_unfollow_is_not_shown(bench):
    """Point 4. Fan-out has read the followers; one unfollows and his list is rebuilt; the push lands in it. A home read drops
    authors whom the reader does not follow now."""
    reader, author, other = await bench.people(3)
    await bench.follow(reader, author)
    await bench.follow(reader, other)
    (good,) = await bench.post(other)
    await bench.ports.timelines.drop([(Kind.FOLLOWERS, author)])
    assert await bench.ports.timelines.begin(Kind.FOLLOWERS, author)  # another process builds it: followers come from the truth
    tweet = await stored(bench.ports, author)

    with held("fanout.truth.after_read", author_id=author) as reading:
        pushing = asyncio.create_task(bench.fanout().new_tweet(events.new_tweet(tweet)))
        await reading.reached()
        await bench.unfollow(reader, author)
        await bench.warm(reader)
        reading.release()
        await pushing

    assert tweet.id in await bench.listed(reader)
    assert await bench.home(reader) == [good]


# ---- 5: crossing the push limit --------------------------------------------------------------------------


async def test_no_tweet_is_missed_while_an_author_crosses_the_push_limit(bench):
    """Point 5, up. Readers' views of the modes are up to 0.5 s old. Every tweet is in every reader's next page, the whole
    way from push to pull; stopping to push with the flag would hide tweets from readers with an older view."""
    small = with_knobs(bench, replace(bench.knobs, fanout=replace(bench.knobs.fanout, push_limit=3)))
    *readers, author = await small.people(6)
    for reader in readers:
        await small.follow(reader, author)
    processes, fanout, paths = [small.timelines() for _ in readers], small.fanout(), set()
    await asyncio.gather(*(process.home(reader, newest(5), Spent()) for process, reader in zip(processes, readers)))
    deadline_s = time.monotonic() + 4.0

    while time.monotonic() < deadline_s and "pull" not in paths:
        tweet = await stored(small.ports, author)
        paths.add((await fanout.new_tweet(events.new_tweet(tweet))).path)
        for process, reader in zip(processes, readers):
            page = await process.home(reader, newest(5), Spent())
            assert page.tweets[0].id == tweet.id
        await asyncio.sleep(0.005)

    assert paths == {"push", "pull"}


async def test_tweets_of_an_authors_pulled_days_stay_when_he_is_pushed_again(bench):
    """Point 5, down. Once pulled, an author stays on the merge list: his pull-era tweets were never pushed."""
    small = with_knobs(bench, replace(bench.knobs, fanout=replace(bench.knobs.fanout, push_limit=3)))
    *readers, author = await small.people(6)
    for reader in readers:
        await small.follow(reader, author)
    await small.ports.users.set_mode(author, Mode.PULL, 0)
    await small.warm(*readers)
    await asyncio.sleep(1.6)
    (pulled,) = await small.post(author)
    assert pulled not in await small.listed(readers[0])
    for reader in readers[2:]:
        await small.unfollow(reader, author)

    (pushed,) = await with_knobs(small, small.knobs).post(author)

    mode = await small.ports.users.mode(author)
    assert mode.mode is Mode.PUSH and mode.pulled_once
    assert pushed in await small.listed(readers[0])
    assert await small.home(readers[0]) == [pushed, pulled]


# ---- 7: the cost of rebuilds -----------------------------------------------------------------------------


async def test_a_full_loss_costs_one_cassandra_read_per_author(bench):
    """Point 7. 12 readers follow the same 8 authors; all lists are lost; all read at once. Through the author lists,
    single-flight per author, Cassandra is read once per author, not once per edge (12 x 8)."""
    readers, authors = await bench.people(12), await bench.people(8)
    for reader in readers:
        for author in authors:
            await bench.ports.users.follow(reader, author)
    for author in authors:
        await bench.post(author, 2)
    await bench.ports.timelines.clear()
    reads: list[int] = []

    async def counted(author_id, before, limit):
        reads.append(author_id)
        return await bench.ports.tweets.by_author(author_id, before, limit)

    counting = type(bench)(bench.settings, replace(bench.ports, tweets=Swapped(bench.ports.tweets, by_author=counted)))
    process = counting.timelines()
    pages = await asyncio.gather(*(process.home(reader, newest(100), Spent()) for reader in readers))

    assert [len(page.tweets) for page in pages] == [16] * 12
    assert sorted(reads) == sorted([*authors, *readers])  # each reader is an author too: his own tweets


async def test_rebuilds_beyond_the_bound_are_refused(bench):
    """Point 7. One rebuild at a time, one may wait: the third is told to come again, before any work was done."""
    narrow = with_knobs(bench, replace(
        bench.knobs, timeline=replace(bench.knobs.timeline, rebuild_concurrency=1, rebuild_queue=1)))
    first, second, third = await narrow.people(3)
    process = narrow.timelines()

    with held("build.home.after_begin", owner=first) as rebuild:
        running = asyncio.create_task(process.home(first, newest(5), Spent()))
        await rebuild.reached()
        waiting = asyncio.create_task(process.home(second, newest(5), Spent()))
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded) as refusal:
            await process.home(third, newest(5), Spent())
        rebuild.release()
        await asyncio.gather(running, waiting)

    assert refusal.value.retry_after_s == 1.0 and refusal.value.definite


async def test_readers_are_served_from_the_truth_while_another_process_rebuilds(bench):
    """Point 7. While a building mark of another process stands, a page comes from Cassandra directly, and is whole."""
    reader, author = await bench.people(2)
    await bench.ports.users.follow(reader, author)
    posted = await bench.post(author, 3)

    with held("build.home.after_begin", owner=reader) as rebuild:
        other = asyncio.create_task(bench.home(reader))
        await rebuild.reached()
        page = await bench.home_page(reader)
        rebuild.release()
        assert await other == posted[::-1]

    assert page.source == "direct"
    assert [tweet.id for tweet in page.tweets] == posted[::-1]


async def test_a_tweet_fanned_out_during_a_rebuild_is_in_the_rebuilt_list(bench):
    """The rule under points 1 to 3: a push goes into the building key, and the merge keeps it."""
    reader, author = await bench.people(2)
    await bench.follow(reader, author)

    with held("build.home.after_read", owner=reader) as rebuild:
        reading = asyncio.create_task(bench.home(reader))
        await rebuild.reached()
        (tweet,) = await bench.post(author)
        rebuild.release()

        assert await reading == [tweet]
    assert await bench.listed(reader) == [tweet]


async def test_a_build_that_began_earlier_is_not_taken_for_a_later_one(bench):
    """Single-flight trap: an author build has read Cassandra; the tweet is posted and fanned out while the reader has no
    list; the reader's rebuild begins and joins that build. It reads the list, which the fan-out filled, not what was read."""
    reader, author = await bench.people(2)
    await bench.ports.users.follow(reader, author)
    process = bench.timelines()

    with held("build.author.after_read", owner=author) as build:
        first = asyncio.create_task(process._lists.ensure(Kind.AUTHOR, author))
        await build.reached()
        (tweet,) = await bench.post(author)
        reading = asyncio.create_task(process.home(reader, newest(5), Spent()))
        await until(lambda: _is_building(bench, reader))
        build.release()
        page = await reading
        await first

    assert [each.id for each in page.tweets] == [tweet]


async def _is_building(bench, reader: int) -> bool:
    return await bench.ports.timelines.begin(Kind.HOME, reader) is None


# ---- 8: read your writes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["warm", "absent", "rebuilding"])
async def test_an_author_reads_his_tweet_as_soon_as_it_is_acknowledged(bench, state):
    """Point 8. No worker runs. Before the answer the id goes into the author's own lists where they are live; where they
    are absent, Cassandra has it; where one is being rebuilt from an earlier read, the building key takes it."""
    (author,) = await bench.people(1)
    service = bench.tweets()
    if state == "warm":
        await bench.warm(author)
        await bench.lists().ensure(Kind.AUTHOR, author)

    with held("build.home.after_read", owner=author) as rebuild:
        reading = asyncio.create_task(bench.home(author)) if state == "rebuilding" else None
        if reading is not None:
            await rebuild.reached()
        tweet = await service.post(author, Draft("mine"), "", "", time.monotonic_ns() + 10**10)
        rebuild.release()
        if reading is not None:
            await reading

    assert await bench.home(author) == [tweet.id]
    assert [each.id for each in (await service.of_user(author, None, None, 10, Spent())).tweets] == [tweet.id]
