"""Races around deletes (point 11), on the real servers: the outbox row is written first, and the relay completes them."""

from __future__ import annotations

import asyncio

import pytest

from system.kernel.errors import StoreUnavailable
from system.services.relay.handlers import Announced, TweetRelay
from tests.helpers.races_bench import held
from tests.helpers.relay_doubles import Gathering, Shifted, rows, with_own_marks
from tests.helpers.services_rig import stored

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]


async def test_a_delete_that_died_between_its_event_and_its_rows_is_finished_by_the_relay(bench):
    """Point 11. It was not acknowledged; the relay marks the tweet deleted, then publishes, so no consumer finds it live."""
    (author,) = await bench.people(1)
    log, time_ = Gathering(), Shifted()
    tweet = await stored(bench.ports, author)

    with held("delete.after_note") as cut:
        dying = asyncio.create_task(bench.ports.tweets.delete(tweet.id, author))
        await cut.reached()
        dying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dying
    before = [each.deleted for each in await rows(bench, author)]
    time_.ahead_s = 4.0
    await TweetRelay(with_own_marks(bench), log, Announced(time_), time_).walk()

    assert (before, [each.deleted for each in await rows(bench, author)]) == ([False], [True])
    assert (await bench.ports.tweets.get([tweet.id]))[tweet.id].deleted
    assert f"{tweet.id}-deleted" in log.ids()


async def test_a_delete_whose_rows_were_refused_is_unknown_and_takes_effect(bench, monkeypatch):
    """Its event exists, so "definitely failed" would be wrong."""
    (author,) = await bench.people(1)
    log, time_ = Gathering(), Shifted()
    tweet = await stored(bench.ports, author)
    run = bench.ports.tweets._run

    async def refused(name, values, doing):
        if name == "mark_deleted":
            raise StoreUnavailable("two of three are away", definite=True)
        return await run(name, values, doing)

    with monkeypatch.context() as patched:
        patched.setattr(bench.ports.tweets, "_run", refused)
        with pytest.raises(StoreUnavailable, match="the tweet may be deleted later") as failure:
            await bench.ports.tweets.delete(tweet.id, author)
    time_.ahead_s = 4.0
    await TweetRelay(with_own_marks(bench), log, Announced(time_), time_).walk()

    assert failure.value.definite is False
    assert (await bench.ports.tweets.get([tweet.id]))[tweet.id].deleted
