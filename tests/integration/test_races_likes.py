"""Races around likes and protection (correctness point 13, rule 10), on the real servers, paused at named points."""

from __future__ import annotations

import asyncio
import random

import pytest

from system.kernel.errors import Forbidden, NotFound
from system.kernel.http.asgi import Spent
from system.services.likes import policy
from system.services.likes.handlers import Counter, LikeService
from system.services.shared.paging import Window
from system.services.shared.read_through import Tweets
from system.services.users.edges import Edges
from system.services.users.policy import Profile
from tests.helpers.races_bench import Bench, held
from tests.helpers.services_rig import stored

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]
PAGE = policy.PageRequest(100, None)


def likes_of(bench: Bench) -> LikeService:
    """Return the likes service of one process."""
    ports = bench.ports
    return LikeService(ports.likes, ports.users, Tweets(ports.hot, ports.tweets), bench.visibility())


def edges_of(bench: Bench) -> Edges:
    """Return the edges of one process, with a short wait until every cached view of protection has expired."""
    return Edges(bench.ports.users, bench.visibility(), bench.knobs.cache.privacy_ttl_s)


# ---- 13: counts ------------------------------------------------------------------------------------------


async def test_a_storm_of_likes_and_unlikes_is_counted_exactly(bench):
    """Point 13. 30 users like and unlike 300 times through 3 processes while 3 workers recount at random: the cached count
    equals the number of rows. Incrementing per event would drift, since events arrive twice and out of order."""
    author, *people = await bench.people(31)
    tweet, services = await stored(bench.ports, author), [likes_of(bench) for _ in range(3)]
    counter, dice = Counter(bench.ports.likes, bench.ports.like_counts), random.Random(7)

    async def user(number: int, who: int) -> bool:
        liked = False
        for step in range(10):
            liked = dice.random() < 0.5
            service = services[(number + step) % 3]
            if liked:
                await service.like(who, who, tweet.id, "", "", Spent())
            else:
                await service.unlike(who, who, tweet.id, "")
            if dice.random() < 0.3:
                await counter.recount([tweet.id])
        return liked

    liked_at_end = await asyncio.gather(*(user(number, who) for number, who in enumerate(people)))
    await asyncio.gather(*(counter.recount([tweet.id]) for _ in range(3)))

    page = await services[0].liking_users(author, tweet.id, PAGE, Spent())
    assert [each.id for each in page.users] == sorted(who for who, liked in zip(people, liked_at_end) if liked)
    assert await bench.ports.like_counts.get([tweet.id]) == {tweet.id: sum(liked_at_end)}


async def test_a_recount_that_resumes_late_does_not_restore_an_old_count(bench):
    """Point 13. A worker counts 1 and is paused; another like arrives and is counted; the first resumes and sets nothing."""
    author, ann, bob = await bench.people(3)
    tweet, service = await stored(bench.ports, author), likes_of(bench)
    counter = Counter(bench.ports.likes, bench.ports.like_counts)
    await service.like(ann, ann, tweet.id, "", "", Spent())

    with held("recount.after_read", ids=(tweet.id,)) as point:
        late = asyncio.create_task(counter.recount([tweet.id]))
        await point.reached()
        await service.like(bob, bob, tweet.id, "", "", Spent())
        await counter.recount([tweet.id])
        point.release()
        assert await late == 0

    assert await bench.ports.like_counts.get([tweet.id]) == {tweet.id: 2}


# ---- 10: private stays private ---------------------------------------------------------------------------


async def test_a_tweet_posted_after_protection_is_not_shown_to_a_reader_that_started_before(bench):
    """Rule 10. A reader is paused between reading tweets and checking visibility; the author's switch to protected is
    acknowledged, and they post: the reader's page has none of their tweets. With the check first, it would."""
    author, reader = await bench.people(2)
    await bench.follow(reader, author)
    first = await stored(bench.ports, author)
    await bench.ports.users.unfollow(reader, author)

    with held("user_tweets.before_look", viewer=reader) as point:
        page = asyncio.create_task(bench.tweets().of_user(reader, author, Window(10, None, None), Spent()))
        await point.reached()
        await edges_of(bench).change_profile(author, Profile(None, True))
        point.release()
        with pytest.raises(Forbidden):
            await page
    assert await bench.tweets().by_ids(reader, [first.id], Spent()) == {}


async def test_protection_is_in_force_everywhere_when_it_is_acknowledged(bench):
    """Rule 10. Other processes read all the time, so their views are as old as possible; after the acknowledgement none
    shows a tweet, though a view taken just before the switch would still say that the author is public."""
    author, reader = await bench.people(2)
    tweet, processes = await stored(bench.ports, author), [bench.tweets(worker) for worker in range(3)]
    stop, shown_after, acknowledged = asyncio.Event(), [], asyncio.Event()

    async def read(process) -> None:
        while not stop.is_set():
            began_after = acknowledged.is_set()
            found = await process.by_ids(reader, [tweet.id], Spent())
            if began_after and found:
                shown_after.append(tweet.id)
            await asyncio.sleep(0.01)

    readers = [asyncio.create_task(read(process)) for process in processes]
    await asyncio.sleep(0.3)
    await edges_of(bench).change_profile(author, Profile(None, True))
    acknowledged.set()
    await asyncio.sleep(0.5)
    stop.set()
    await asyncio.gather(*readers)

    assert shown_after == []


async def test_a_removed_follower_sees_nothing_though_cached_lists_still_have_it(bench):
    """Rule 10. The edge is removed, its event not yet handled: the home timeline in Redis still has the tweet, and so does
    the cached list of followings. The page does not."""
    author, fan = await bench.people(2)
    await bench.follow(fan, author)
    await edges_of(bench).change_profile(author, Profile(None, True))
    tweet = await stored(bench.ports, author)
    home = bench.timelines()
    before = await home.home(fan, Window(10, None, None), Spent())

    await edges_of(bench).remove(author, author, fan, "")
    after = await bench.timelines().home(fan, Window(10, None, None), Spent())

    assert [each.id for each in before.tweets] == [tweet.id]
    assert [each.id for each in after.tweets] == []
    with pytest.raises(NotFound):
        await likes_of(bench).like(fan, fan, tweet.id, "", "", Spent())


async def test_a_follow_and_its_approval_that_race_a_refusal_leave_a_consistent_state(bench):
    """Either the edge exists and is counted, or neither."""
    author, *fans = await bench.people(9)
    await bench.ports.users.set_profile(author, protected=True)
    await asyncio.gather(*(bench.ports.users.follow(fan, author) for fan in fans))

    await asyncio.gather(*(bench.ports.users.approve(fan, author) for fan in fans),
                         *(bench.ports.users.refuse(fan, author) for fan in fans))

    standing = await bench.ports.users.followers(author, -1, 100)
    assert await bench.ports.users.audience(author) == len(standing)
    assert await bench.ports.users.requests(author, -1, 100) == []
