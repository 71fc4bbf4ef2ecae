"""Races around idempotency keys, outboxes and deletes (correctness points 9, 11, 12), on the real servers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from system.kernel import clock, events, ids
from system.kernel.errors import Conflict, StoreUnavailable
from system.kernel.events import Tweet
from system.kernel.http.asgi import Spent
from system.services.relay import policy as relay_policy
from system.services.relay.handlers import Announced, EdgeRelay, TweetRelay
from system.services.shared.read_through import Tweets
from system.services.tweets.policy import Draft
from system.stores.cassandra import tweets as cassandra_tweets
from tests.helpers.races_bench import Bench, Swapped, edge_event, held
from tests.helpers.relay_doubles import Gathering, Shifted, rows, with_own_marks
from tests.helpers.services_rig import stored

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


def soon() -> int:
    """A deadline ten seconds ahead, monotonic ns."""
    return time.monotonic_ns() + 10 * 10**9


# ---- 9: idempotency keys ---------------------------------------------------------------------------------


async def test_concurrent_posts_with_one_key_through_many_processes_make_one_tweet(bench):
    """Point 9. 24 posts with one key through 4 processes: the key is reserved before anything is written, so all write
    the same row; checking for the key first and writing it later would admit several."""
    (author,) = await bench.people(1)
    processes = [bench.tweets(worker) for worker in range(4)]

    made = await asyncio.gather(*(processes[n % 4].post(author, Draft("once"), "key-1", "", soon()) for n in range(24)))

    assert len({tweet.id for tweet in made}) == 1
    assert [row.id for row in await rows(bench, author)] == [made[0].id]


async def test_a_post_paused_after_its_reservation_and_its_retry_are_one_tweet(bench):
    """Point 9. The first has reserved the key and written nothing; the retry writes with the id of the first."""
    (author,) = await bench.people(1)

    with held("post.after_reserve", fresh=True) as first:
        slow = asyncio.create_task(bench.tweets(1).post(author, Draft("once"), "key-2", "", soon()))
        await first.reached()
        repeat = await bench.tweets(2).post(author, Draft("once"), "key-2", "", soon())
        first.release()
        assert (await slow).id == repeat.id

    assert [row.id for row in await rows(bench, author)] == [repeat.id]


async def test_a_key_with_another_body_is_refused(bench):
    """Point 9. The reservation contains the hash of the body."""
    (author,) = await bench.people(1)
    await bench.tweets().post(author, Draft("once"), "key-3", "", soon())

    with pytest.raises(Conflict) as refusal:
        await bench.tweets().post(author, Draft("twice"), "key-3", "", soon())

    assert refusal.value.status == 422
    assert [row.text for row in await rows(bench, author)] == ["once"]


async def test_a_batch_that_timed_out_and_succeeded_is_published_by_its_retry(bench):
    """Point 9. The write succeeds but its response is lost, so nothing was published; the retry writes the same cells and
    publishes before it responds."""
    (author,) = await bench.people(1)
    log = Gathering()

    async def lost(tweet, trace=""):
        await bench.ports.tweets.append(tweet, trace)
        raise StoreUnavailable("no answer", definite=False)

    losing = Bench(bench.settings, replace(bench.ports, log=log, tweets=Swapped(bench.ports.tweets, append=lost)))
    with pytest.raises(StoreUnavailable):
        await losing.tweets().post(author, Draft("once"), "key-4", "", soon())
    assert log.published == []

    tweet = await Bench(bench.settings, replace(bench.ports, log=log)).tweets().post(author, Draft("once"), "key-4", "", soon())

    assert log.ids() == [str(tweet.id)]
    assert [row.id for row in await rows(bench, author)] == [tweet.id]


async def test_a_retry_after_the_delete_does_not_restore_the_tweet(bench):
    """Points 9 and 12. The replayed batch has the timestamp of the id and never writes `deleted`."""
    (author,) = await bench.people(1)
    service = bench.tweets()
    tweet = await service.post(author, Draft("gone"), "key-5", "", soon())
    await service.delete(author, tweet.id, "")

    repeat = await service.post(author, Draft("gone"), "key-5", "", soon())

    assert repeat.id == tweet.id
    assert [row.deleted for row in await rows(bench, author)] == [True]
    assert await bench.home(author) == []


async def test_a_post_whose_own_lists_cannot_be_reached_is_not_acknowledged(bench):
    """Point 8. The tweet is durable, but its author would not see it: 503, outcome unknown; the relay still delivers it."""
    (author,) = await bench.people(1)

    async def away(entry):
        raise StoreUnavailable("Redis is away", definite=True)

    losing = Bench(bench.settings, replace(bench.ports, timelines=Swapped(bench.ports.timelines, add_own=away)))
    with pytest.raises(StoreUnavailable) as problem:
        await losing.tweets().post(author, Draft("unsure"), "", "", soon())

    assert not problem.value.definite
    assert len(await rows(bench, author)) == 1


# ---- 11: outboxes ----------------------------------------------------------------------------------------


async def test_the_relay_publishes_only_what_a_crash_left_unpublished(bench):
    """Point 11. Two tweets are durable; one was published, the writer of the other died before it published."""
    (author,) = await bench.people(1)
    log, time_ = Gathering(), Shifted()
    announced = Announced(time_)
    published, left = await stored(bench.ports, author), await stored(bench.ports, author)
    announced.add([str(published.id)])
    relay = TweetRelay(with_own_marks(bench), log, announced, time_)

    await relay.walk()
    early = [event for event in log.ids() if int(event.split("-")[0]) in (published.id, left.id)]
    time_.ahead_s = 4.0
    await relay.walk()
    await relay.walk()

    assert early == []
    assert [event for event in log.ids() if event in (str(published.id), str(left.id))] == [str(left.id)]


async def test_a_post_that_died_between_its_outbox_row_and_its_rows_is_completed_by_the_relay(bench):
    """Point 11. The outbox row is durable, the process died before it wrote the tweet's own rows: the relay writes them
    from the event, then publishes, so no event names an unreadable tweet."""
    (author,) = await bench.people(1)
    log, time_ = Gathering(), Shifted()

    with held("append.after_note") as cut:
        dying = asyncio.create_task(stored(bench.ports, author))
        await cut.reached()
        dying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dying
    before = await rows(bench, author)
    time_.ahead_s = 4.0
    await TweetRelay(with_own_marks(bench), log, Announced(time_), time_).walk()

    (written,) = await rows(bench, author)
    assert before == []
    assert str(written.id) in log.ids()
    assert (await bench.ports.tweets.get([written.id]))[written.id] == written


async def test_a_row_that_is_written_behind_the_mark_is_still_published(bench):
    """Point 11. A batch from 25 s ago is written after the relay's mark passed its bucket. Each bucket is scanned again
    after 30 s and after 2 min; a relay that never scans below its mark loses the row."""
    (author,) = await bench.people(1)
    log, time_ = Gathering(), Shifted()
    store = with_own_marks(bench)
    relay = TweetRelay(store, log, Announced(time_), time_)
    await relay.walk()
    wall_ms = time_.wall_ms() - 25_000
    late = Tweet(ids.compose(wall_ms, 999, author % 4096), author, "late", wall_ms, 0)
    await bench.ports.tweets.append(late)
    mark = await store.outbox_mark(cassandra_tweets.shard_of(late.id))
    assert mark > relay_policy.bucket_of(wall_ms)

    for _ in range(26):  # two minutes of ticks
        time_.ahead_s += relay_policy.TICK_S
        await relay.walk()

    assert log.ids().count(str(late.id)) >= 1


async def test_a_key_that_is_retried_long_after_its_reservation_is_still_published(bench):
    """Point 11. Cassandra was down for ten minutes; the retry dies after its outbox row. With the time of the id, ten
    minutes below the mark, no relay would find it."""
    (author,) = await bench.people(1)
    log, time_ = Gathering(), Shifted()
    relay = TweetRelay(with_own_marks(bench), log, Announced(time_), time_)
    await relay.walk()
    wall_ms = time_.wall_ms() - 600_000
    late = Tweet(ids.compose(wall_ms, 999, author % 4096), author, "late", wall_ms, 0)
    await bench.ports.tweets.append(late)

    for _ in range(2):
        time_.ahead_s += relay_policy.TICK_S
        await relay.walk()

    assert str(late.id) in log.ids()


async def test_after_an_outage_the_relay_continues_from_its_mark(bench):
    """Point 11. A relay that starts after ten minutes of downtime publishes what was left in the meantime."""
    (author,) = await bench.people(1)
    log, time_ = Gathering(), Shifted()
    store = with_own_marks(bench)
    await TweetRelay(store, log, Announced(time_), time_).walk()
    left = await stored(bench.ports, author)

    time_.ahead_s = 600.0
    await TweetRelay(store, log, Announced(time_), time_).walk()

    assert str(left.id) in log.ids()


async def test_edge_events_stay_in_the_outbox_until_the_log_acknowledged_them(bench):
    """Point 11. The log refuses; the rows stay. Several relays drain concurrently; each row is removed once acknowledged."""
    follower, *followees = await bench.people(9)
    edges = [await bench.ports.users.follow(follower, followee) for followee in followees]
    wanted = {edge_event(edge).id for edge in edges}
    log = Gathering()
    log.refuses = True
    with pytest.raises(StoreUnavailable):
        await EdgeRelay(bench.ports.users, log).drain()

    log.refuses = False
    await asyncio.gather(*(EdgeRelay(bench.ports.users, log).drain() for _ in range(4)))

    published = [event for event in log.ids() if event in wanted]  # other tests leave events of their own in the outbox
    assert sorted(published) == sorted(wanted)


# ---- 12: deletes -----------------------------------------------------------------------------------------


async def test_a_cache_fill_from_before_the_delete_does_not_revive_the_tweet(bench):
    """Point 12. Read live, deleted, then filled. The fill finds the marker of the delete and keeps it."""
    (author,) = await bench.people(1)
    tweet = await stored(bench.ports, author)
    reader = Tweets(bench.ports.hot, bench.ports.tweets)

    with held("tweets.before_fill") as filling:
        reading = asyncio.create_task(reader.live([tweet.id], Spent()))
        await filling.reached()
        await bench.tweets().delete(author, tweet.id, "")
        filling.release()
        await reading

    assert await bench.ports.hot.get([tweet.id]) == {tweet.id: None}
    assert await reader.live([tweet.id], Spent()) == {}


async def test_a_delete_handled_before_its_tweet_leaves_no_ghost(bench):
    """Points 12 and 14. The topics have no common order: the delete is handled first, then the tweet's event arrives."""
    reader, author = await bench.people(2)
    await bench.follow(reader, author)
    await bench.warm(reader, author)
    tweet = await stored(bench.ports, author)
    await bench.ports.tweets.delete(tweet.id, author)
    await bench.fanout().tweet_deleted(events.tweet_deleted(tweet.id, author))

    done = await bench.fanout().new_tweet(events.new_tweet(tweet))

    assert done.path == "skip"
    assert await bench.listed(reader) == []


async def test_a_delete_handled_while_its_tweet_is_pushed_leaves_no_ghost(bench):
    """Point 12. The push has started; the delete is handled in between; the push completes, then checks the marker."""
    reader, author = await bench.people(2)
    await bench.follow(reader, author)
    await bench.warm(reader, author)
    tweet = await stored(bench.ports, author)

    with held("fanout.after_own", tweet_id=tweet.id) as pushing:
        first = asyncio.create_task(bench.fanout().new_tweet(events.new_tweet(tweet)))
        await pushing.reached()
        await bench.ports.tweets.delete(tweet.id, author)
        await bench.fanout().tweet_deleted(events.tweet_deleted(tweet.id, author))
        pushing.release()
        await first

    assert await bench.listed(reader) == []
    assert await bench.home(reader) == []


async def test_a_tweet_from_an_instance_with_a_fast_clock_can_be_deleted(bench):
    """Point 12. The id is 5 s ahead of the deleter's clock, and the batch is replayed after the delete."""
    (author,) = await bench.people(1)
    ahead_ms = clock.SystemClock().wall_ms() + 5_000
    tweet = Tweet(ids.compose(ahead_ms, 998, author % 4096), author, "from the future", ahead_ms, 0)
    await bench.ports.tweets.append(tweet)

    await bench.tweets().delete(author, tweet.id, "")
    await bench.ports.tweets.append(tweet)

    assert (await bench.ports.tweets.get([tweet.id]))[tweet.id].deleted
    assert await bench.home(author) == []
