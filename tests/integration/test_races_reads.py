"""Races around reads: pulled authors, rebuilds, own tweets (points 4, 5, 7, 8), on the real servers, paused at named points."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from system.kernel import events
from system.kernel.errors import Overloaded
from system.kernel.http.asgi import Spent
from system.ports import Entry, Kind, Mode
from system.services.fanout.audience import Audience
from system.services.shared.paging import Window
from system.services.tweets.policy import Draft
from tests.helpers.races_bench import Bench, Swapped, held, newest, with_knobs
from tests.helpers.services_rig import stored, until

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


# ---- 4: unfollow against fan-out in flight ---------------------------------------------------------------


async def test_a_push_that_lands_after_an_unfollow_is_not_shown(bench):
    """Point 4. Fan-out has read the followers; one unfollows and their list is rebuilt; the push arrives in it. A home read
    drops authors that the reader does not follow now."""
    reader, author, other = await bench.people(3)
    await bench.follow(reader, author)
    await bench.follow(reader, other)
    (good,) = await bench.post(other)
    await bench.ports.timelines.drop([(Kind.FOLLOWERS, author)])
    assert await bench.ports.timelines.begin(Kind.FOLLOWERS, author)  # another process builds it: followers come from PostgreSQL
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
    """Point 5, up. Readers' views of the pulled authors are up to 0.5 s old. Every tweet is in every reader's next page
    during the switch from push to pull; if the flag stopped the push, readers with an older view would miss tweets."""
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


async def test_tweets_of_an_author_from_the_time_of_pull_stay_when_they_are_pushed_again(bench):
    """Point 5, down. Once pulled, an author stays on the merge list: those tweets were never pushed."""
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


async def crossed(small, readers, author, settle_s=1.6):
    """Let everybody follow the author, who permanently crosses the limit; return a tweet that was not pushed."""
    for reader in readers:
        await small.follow(reader, author)
    await small.ports.users.set_mode(author, Mode.PULL, 0)
    await small.warm(*readers)
    await asyncio.sleep(settle_s)  # older than any reader's view of the pulled authors
    (pulled,) = await small.post(author)
    assert pulled not in await small.listed(readers[0])
    return pulled


async def test_no_tweet_is_missed_while_an_author_falls_below_the_push_limit(bench):
    """Point 5, down. A worker has decided to pull and is paused; in the meantime the author falls below the limit and
    another worker pushes. Readers with a view from before, during and after the change see every tweet in
    every page."""
    small = with_knobs(bench, replace(bench.knobs, fanout=replace(bench.knobs.fanout, push_limit=3)))
    *readers, author = await small.people(6)
    posted = [await crossed(small, readers, author)]
    reader, early = readers[0], small.timelines()
    await early.home(reader, newest(9), Spent())

    async def everybody_sees_all():
        for process in (early, small.timelines()):
            page = await process.home(reader, newest(9), Spent())
            assert [tweet.id for tweet in page.tweets] == sorted(posted, reverse=True)

    late = await stored(small.ports, author)
    posted.append(late.id)
    with held("fanout.after_mode", author_id=author, path="pull") as deciding:
        pulling = asyncio.create_task(small.fanout().new_tweet(events.new_tweet(late)))
        await deciding.reached()
        for other in readers[2:]:
            await small.unfollow(other, author)
        posted += await small.post(author)
        await everybody_sees_all()
        deciding.release()
        assert (await pulling).path == "pull"
    await everybody_sees_all()
    posted += await small.post(author)
    await everybody_sees_all()
    await asyncio.sleep(0.6)  # beyond the age of any view

    await everybody_sees_all()
    assert (await small.ports.users.mode(author)).mode is Mode.PUSH
    assert set(posted[2:]) <= set(await small.listed(reader))
    assert not set(posted[:2]) & set(await small.listed(reader))


async def test_pulled_tweets_stay_when_the_database_is_restored_without_the_pulled_authors(bench):
    """Pulled authors are never removed, but a backup may lack them: a reader that finds one missing deletes every cached
    list, since a home list does not contain pulled tweets and nobody merges them any more. The next page is
    built from the stores."""
    small = with_knobs(bench, replace(bench.knobs, fanout=replace(bench.knobs.fanout, push_limit=3)))
    *readers, author = await small.people(6)
    pulled = await crossed(small, readers, author)
    lists, worker = small.ports.timelines, small.fanout()
    worker._audience = Audience(small.ports.users, on_replaced=lists.clear)
    await worker._audience.mode(author)
    known = await small.ports.users.modes()

    async def restored():
        return [mode for mode in known if mode.author_id != author]

    backup = Swapped(small.ports.users, modes=restored)
    worker._audience._users = backup
    after = Bench(small.settings, replace(small.ports, users=backup))
    assert await after.home(readers[0]) == []  # complete, and wrong: this is what the rule repairs
    await asyncio.sleep(0.6)
    tweet = await stored(small.ports, author)

    await worker.new_tweet(events.new_tweet(tweet))

    assert await after.home(readers[0]) == [tweet.id, pulled]


# ---- 7: the cost of rebuilds -----------------------------------------------------------------------------


async def test_a_full_loss_costs_one_cassandra_read_per_author(bench):
    """Point 7. 12 readers follow the same 8 authors; all lists are lost; all read concurrently. With author lists and
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
    assert sorted(reads) == sorted([*authors, *readers])  # each reader is an author, too: own tweets


async def test_rebuilds_beyond_the_limit_are_refused(bench):
    """Point 7. One rebuild at a time, one may wait: the third gets a retryable refusal before any work is done."""
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


async def test_a_rebuild_that_waited_uses_the_list_that_another_has_completed(bench):
    """Two reads of one reader, one slot: the second finds the list complete once it is its turn. It must read that list, not
    every author's tweets from Cassandra."""
    narrow = with_knobs(bench, replace(bench.knobs, timeline=replace(bench.knobs.timeline, rebuild_concurrency=1)))
    reader, author = await narrow.people(2)
    await narrow.ports.users.follow(reader, author)
    posted = await narrow.post(author, 3)
    process = narrow.timelines()

    with held("build.home.after_begin", owner=reader) as rebuild:
        first = asyncio.create_task(process.home(reader, newest(5), Spent()))
        await rebuild.reached()
        second = asyncio.create_task(process.home(reader, newest(5), Spent()))
        await asyncio.sleep(0.1)
        rebuild.release()
        pages = await asyncio.gather(first, second)

    assert [page.source for page in pages] == ["rebuild", "rebuild"]
    assert [[tweet.id for tweet in page.tweets] for page in pages] == [posted[::-1]] * 2


async def test_readers_are_served_from_cassandra_while_another_process_rebuilds(bench):
    """Point 7. While another process holds the building mark, a page comes directly from Cassandra, and is complete."""
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


async def test_a_tweet_that_cassandra_showed_during_a_rebuild_does_not_vanish_again(bench):
    """Monotonic reads. The rebuild read before the tweet was written, and its event is late: a page from Cassandra shows it,
    and so does the next one, from the list that was rebuilt in the meantime."""
    reader, author = await bench.people(2)
    await bench.follow(reader, author)

    with held("build.home.after_read", owner=reader) as rebuild:
        reading = asyncio.create_task(bench.home(reader))
        await rebuild.reached()
        tweet = await stored(bench.ports, author)
        await bench.ports.timelines.add_own(Entry(tweet.id, author))  # as a post does before it is acknowledged
        direct = await bench.home_page(reader)
        rebuild.release()
        await reading
    after = await bench.home_page(reader)

    assert (direct.source, [each.id for each in direct.tweets]) == ("direct", [tweet.id])
    assert (after.source, [each.id for each in after.tweets]) == ("hit", [tweet.id])


async def test_a_tweet_fanned_out_during_a_rebuild_is_in_the_rebuilt_list(bench):
    """The rule behind points 1 to 3: a push goes into the building key, and the merge keeps it."""
    reader, author = await bench.people(2)
    await bench.follow(reader, author)

    with held("build.home.after_read", owner=reader) as rebuild:
        reading = asyncio.create_task(bench.home(reader))
        await rebuild.reached()
        (tweet,) = await bench.post(author)
        rebuild.release()

        assert await reading == [tweet]
    assert await bench.listed(reader) == [tweet]


async def test_a_build_that_started_earlier_is_not_used_for_a_later_one(bench):
    """Single-flight trap: an author build has read Cassandra; the tweet is posted and fanned out while the reader has no
    list; the reader's rebuild joins that build. It uses the list, which the fan-out filled, not the earlier read."""
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
async def test_authors_read_their_tweet_as_soon_as_it_is_acknowledged(bench, state):
    """Point 8. No worker runs. Before the response the id is added to the author's own lists if they exist; if not,
    Cassandra has it; if one is being rebuilt from an earlier read, the building key gets it."""
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
    assert [each.id for each in (await service.of_user(author, author, Window(10, None, None), Spent())).tweets] == [tweet.id]
