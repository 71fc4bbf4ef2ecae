"""Contract of every key store: in memory, and on PostgreSQL."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

import asyncio

import pytest

from tests.helpers.durable_stores import durable_settings, fresh_author, keys, real_keys


async def test_a_key_binds_once_and_a_repeat_gets_the_first_reservation(keys):
    """The hash shows a repeat with another body; the same key of another user is a different key."""
    ada, bob = fresh_author(), fresh_author()

    first = await keys.reserve(ada, "key-1", 101, "hash-a")
    again = await keys.reserve(ada, "key-1", 102, "hash-b")
    other = await keys.reserve(bob, "key-1", 103, "hash-c")

    assert (first.tweet_id, first.body_hash, first.fresh) == (101, "hash-a", True)
    assert (again.tweet_id, again.body_hash, again.fresh) == (101, "hash-a", False)
    assert (other.tweet_id, other.fresh) == (103, True)


async def test_racing_reservations_of_one_key_agree_on_one_tweet(keys):
    """Point 9: of many tasks that reserve one key, one makes the reservation and all get its id."""
    ada = fresh_author()

    answers = await asyncio.gather(*(keys.reserve(ada, "racing", 1000 + n, f"hash-{n}") for n in range(24)))

    assert len({answer.tweet_id for answer in answers}) == 1
    assert sum(answer.fresh for answer in answers) == 1


@pytest.mark.real
async def test_two_instances_racing_for_one_key_agree(real_keys, durable_settings):
    """Point 9: the reservation is linearizable across the sessions of several processes."""
    from system.stores.postgres.keys import PostgresKeys

    other = await PostgresKeys.open(durable_settings)
    ada = fresh_author()

    answers = await asyncio.gather(*(
        store.reserve(ada, f"key-{n % 5}", 1000 + 2 * n + side, "h") for n in range(40)
        for side, store in enumerate((real_keys, other))
    ))
    await other.close()

    by_key = {n: {a.tweet_id for i, a in enumerate(answers) if i // 2 % 5 == n} for n in range(5)}
    assert [len(tweet_ids) for tweet_ids in by_key.values()] == [1] * 5
    assert sum(answer.fresh for answer in answers) == 5


@pytest.mark.real
async def test_a_repeat_writes_wal_so_that_its_commit_waits_for_the_standby(real_keys):
    """Point 10: an answer based on an unreplicated row would be wrong after a failover."""
    ada = fresh_author()
    await real_keys.reserve(ada, "key", 1, "h")

    async def wal():
        return (await real_keys._pool.run(_wal_position, "read the WAL position"))

    before = await wal()
    again = await real_keys.reserve(ada, "key", 2, "h")

    assert (again.tweet_id, again.fresh) == (1, False)
    assert await wal() > before


async def _wal_position(connection):
    return (await (await connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")).fetchone())[0]
