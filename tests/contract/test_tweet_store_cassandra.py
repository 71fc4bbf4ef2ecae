"""What only a real Cassandra can show: clocks, deadlines, refusals, and that every driver error is mapped."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
import dataclasses
import inspect

import cassandra
import pytest
from cassandra import cluster, connection, metadata, pool, protocol, query, segment

from system.kernel import settings
from system.kernel.errors import StoreUnavailable, WrongInput
from system.stores.cassandra import driver as cassandra_bridge
from system.stores.cassandra import tweets as cassandra_tweets
from tests.helpers.durable_stores import a_tweet, durable_settings, fresh_author, real_tweets

MODULES = (cassandra, cluster, connection, metadata, pool, protocol, query, segment)


def _driver_errors() -> list[type[BaseException]]:
    kinds = {kind for module in MODULES for _, kind in inspect.getmembers(module, inspect.isclass)
             if issubclass(kind, Exception) and kind.__module__.startswith("cassandra")}
    return sorted(kinds, key=lambda kind: f"{kind.__module__}.{kind.__name__}")


def test_every_error_of_the_driver_says_whether_it_happened():
    """The outcome of an error class without an entry for one of its bases would be a guess; there is none."""
    kinds = _driver_errors()
    unmapped = [kind for kind in kinds if not any(base in cassandra_bridge.DEFINITE for base in kind.__mro__)]

    assert len(kinds) > 40
    assert unmapped == []


@pytest.mark.parametrize(("error", "definite"), [
    (cassandra.Unavailable("x", required_replicas=2, alive_replicas=1), True),
    (cassandra.InvalidRequest('message="table tweets_by_id does not exist"'), True),
    (cluster.NoHostAvailable("x", {}), True),
    (protocol.IsBootstrappingErrorMessage(0, "x", None), True),
    (cassandra.WriteTimeout("x", write_type=cassandra.WriteType.BATCH_LOG), False),
    (cassandra.WriteTimeout("x", write_type=cassandra.WriteType.CAS), False),
    (cassandra.WriteFailure("x"), False),
    (cassandra.ReadTimeout("x"), False),
    (cassandra.OperationTimedOut(), False),
    (connection.ConnectionShutdown("x"), False),
    (protocol.OverloadedErrorMessage(0, "x", None), False),
    (protocol.ServerError(0, "x", None), False),
    (KeyError("unheard of"), False),
], ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value))
def test_only_a_certain_refusal_is_definite(error, definite):
    """A timeout after sending is never definite; neither is an unknown error class."""
    ours = cassandra_bridge.mapped(error, "append")

    assert isinstance(ours, StoreUnavailable)
    assert ours.definite is definite


async def test_a_refused_connection_is_a_definite_failure():
    """A refused connection certainly wrote nothing."""
    at = settings.from_env({})
    unreachable = dataclasses.replace(at, stores=dataclasses.replace(at.stores, cassandra=("127.60.10.99:9042",)))

    with pytest.raises(StoreUnavailable) as caught:
        await cassandra_tweets.CassandraTweets.open(unreachable)

    assert caught.value.definite is True


@pytest.mark.real
@pytest.mark.parametrize("invalid_id", [2**70, "abc", None])
async def test_an_invalid_id_does_not_open_the_circuit_breaker(real_tweets, invalid_id):
    """However often it is requested, the breaker stays closed, and valid requests are answered."""
    for _ in range(20):
        with pytest.raises(WrongInput):
            await real_tweets.get([invalid_id])

    assert real_tweets._bridge._guard.breaker.state.number == 0
    assert await real_tweets.get([1]) == {}


@pytest.mark.real
async def test_an_append_past_its_deadline_may_have_happened(real_tweets):
    """The driver gives up, the server may not: the outcome is unknown, and a replay resolves it."""
    tweet = a_tweet()
    await real_tweets.append(a_tweet())
    real_tweets._bridge._deadline_s = 0.0001

    with pytest.raises(StoreUnavailable) as caught:
        for _ in range(20):
            await real_tweets.append(tweet)
    real_tweets._bridge._deadline_s = 5.0
    await real_tweets.append(tweet)

    assert caught.value.definite is False
    assert await real_tweets.by_author(tweet.author_id, None, 10) == [tweet]


@pytest.mark.real
async def test_a_cancelled_caller_does_not_affect_the_others(real_tweets):
    """Cancelled reads free their slot; the other reads get their results."""
    author = fresh_author()
    await asyncio.gather(*(real_tweets.append(a_tweet(author_id=author)) for _ in range(20)))
    reads = [asyncio.create_task(real_tweets.by_author(author, None, 20)) for _ in range(100)]
    await asyncio.sleep(0)

    for read in reads[::2]:
        read.cancel()
    answers = await asyncio.gather(*reads, return_exceptions=True)

    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert [len(answer) for answer in answers[1::2]] == [20] * 50


@pytest.mark.real
async def test_preparing_twice_changes_nothing(real_tweets):
    """Every instance may call `prepare` when it starts."""
    tweet = a_tweet()
    await real_tweets.append(tweet)

    await real_tweets.prepare()
    await real_tweets.ready()

    assert await real_tweets.get([tweet.id]) == {tweet.id: tweet}
    assert len(cassandra_tweets.tables()) == 6
