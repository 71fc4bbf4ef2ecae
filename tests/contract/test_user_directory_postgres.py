"""What only a real PostgreSQL can show: commits that are never cancelled, and unknown outcomes."""

# ruff: noqa: F401, F811 (fixtures come in by their names)

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import time

import psycopg
import pytest
from psycopg import errors as pg

from system.kernel import settings
from system.kernel.errors import Conflict, StoreUnavailable, WrongInput
from system.stores.postgres import pool as postgres_pool
from system.stores.postgres import users as postgres_users
from tests.helpers.durable_stores import durable_settings, real_users


@pytest.fixture
async def beside(real_users):
    """A second connection to the same database, outside the adapter."""
    async with await psycopg.AsyncConnection.connect(real_users._pool.url, autocommit=True) as connection:
        yield connection


async def _pair(users):
    return (await users.create("ada", "Ada", "h")).id, (await users.create("bob", "Bob", "h")).id


async def _until(condition, timeout_s: float = 5.0) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if await condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def _one(connection, statement: str):
    return (await (await connection.execute(statement.encode())).fetchone())[0]


def test_every_error_of_the_driver_says_whether_it_happened():
    """Each error has a SQLSTATE whose class is in the table, or an entry for one of its bases."""
    kinds = {kind for module in (psycopg, pg) for _, kind in inspect.getmembers(module, inspect.isclass)
             if issubclass(kind, Exception) and kind.__module__.startswith("psycopg")}
    unmapped = [kind.__name__ for kind in kinds
                if not ((state := getattr(kind, "sqlstate", None)) and state[:2] in postgres_pool.DEFINITE_BY_CLASS)
                and not any(base in postgres_pool.DEFINITE_BY_TYPE for base in kind.__mro__)]
    unknown_states = {kind.sqlstate for kind in kinds if getattr(kind, "sqlstate", None)
                      and kind.sqlstate[:2] not in postgres_pool.DEFINITE_BY_CLASS}

    assert len(kinds) > 200
    assert unmapped == []
    assert unknown_states == set()


@pytest.mark.parametrize(("error", "definite"), [
    (pg.SerializationFailure("x"), True),
    (pg.ReadOnlySqlTransaction("x"), True),
    (pg.CannotConnectNow("x"), True),
    (pg.TooManyConnections("x"), True),
    (psycopg.OperationalError("server closed the connection unexpectedly"), False),
    (pg.AdminShutdown("x"), False),
    (pg.CrashShutdown("x"), False),
    (pg.QueryCanceled("x"), False),
    (pg.StatementCompletionUnknown("x"), False),
    (pg.ConnectionFailure("x"), False),
    (KeyError("unheard of"), False),
], ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value))
def test_only_a_refusal_by_the_server_is_definite(error, definite):
    """A session that ended may have committed."""
    ours = postgres_pool.mapped(error, "follow")

    assert isinstance(ours, StoreUnavailable)
    assert ours.definite is definite


@pytest.mark.parametrize("error", [
    pg.NumericValueOutOfRange("x"), pg.InvalidTextRepresentation("x"), psycopg.DataError("NUL in text"), pg.CheckViolation("x"),
], ids=lambda error: type(error).__name__)
def test_a_value_that_its_column_rejects_is_the_callers_error(error):
    """It is no failure of PostgreSQL, whose breaker would open otherwise, and no retry fixes it."""
    ours = postgres_pool.mapped(error, "follow")

    assert isinstance(ours, WrongInput)
    assert ours.definite is True


@pytest.mark.real
@pytest.mark.parametrize("invalid_id", [2**70, "abc"])
async def test_an_invalid_id_does_not_open_the_circuit_breaker(real_users, invalid_id):
    """However often it is requested."""
    for _ in range(20):
        with pytest.raises(WrongInput):
            await real_users.follow(1, invalid_id)

    assert real_users._pool._guard.breaker.state.number == 0


@pytest.mark.real
async def test_taken_names_do_not_open_the_circuit_breaker(real_users):
    """However many sign-ups for an existing name arrive in a row, they block no other requests."""
    await _pair(real_users)
    for _ in range(20):
        with pytest.raises(Conflict, match="is taken"):
            await real_users.create("ada", "Another Ada", "h")

    assert real_users._pool._guard.breaker.state.number == 0


async def test_a_refused_connection_is_a_definite_failure():
    """A refused connection certainly changed nothing."""
    at = settings.from_env({})
    stores = dataclasses.replace(at.stores, postgres_url="postgresql://tweetlab@127.60.40.99:5432")
    users = await postgres_users.PostgresUsers.open(dataclasses.replace(at, stores=stores))

    with pytest.raises(StoreUnavailable) as caught:
        await users.follow(1, 2)

    assert caught.value.definite is True


@pytest.mark.real
async def test_a_repeated_follow_writes_wal(real_users, beside):
    """Point 10: a repeat without a write would be acknowledged without waiting for the standby."""
    ada, bob = await _pair(real_users)
    await real_users.follow(ada, bob)
    before = await _one(beside, "SELECT pg_current_wal_insert_lsn()")
    rows_before = await _one(beside, "SELECT count(*) FROM outbox")

    await real_users.follow(ada, bob)

    grown = await _one(beside, f"SELECT pg_current_wal_flush_lsn() - '{before}'::pg_lsn")
    assert grown > 0
    assert await _one(beside, "SELECT count(*) FROM outbox") == rows_before + 1


@pytest.mark.real
async def test_a_repeated_sign_up_writes_wal(real_users, beside):
    """Point 10 for sign-ups."""
    await real_users.create("ada", "Ada", "h", key="k")
    before = await _one(beside, "SELECT pg_current_wal_insert_lsn()")

    await real_users.create("ada", "Ada", "h", key="k")

    assert await _one(beside, f"SELECT pg_current_wal_flush_lsn() - '{before}'::pg_lsn") > 0


@pytest.mark.real
async def test_a_deadline_closes_the_connection_and_never_cancels(real_users, beside):
    """Point 10: the caller gets an unknown outcome, and the transaction finishes by itself."""
    ada, bob = await _pair(real_users)
    real_users._pool.deadline_s = 0.3
    async with beside.transaction():
        await beside.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            await real_users.follow(ada, bob)
        waited_s = time.monotonic() - started
        await asyncio.sleep(0.3)
        waiting = await _one(beside, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%change_edge%' "
                                     "AND wait_event_type = 'Lock' AND datname = current_database()")
    assert caught.value.definite is False
    assert 0.25 < waited_s < 1.0
    assert waiting == 1

    async def followed() -> bool:
        return (await real_users.edge(ada, bob)).following

    assert await _until(followed)
    assert await real_users.audience(bob) == 1


@pytest.mark.real
async def test_a_cancelled_caller_does_not_stop_the_commit(real_users, beside):
    """Point 10: an asyncio cancellation never becomes a cancel on the server."""
    ada, bob = await _pair(real_users)
    async with beside.transaction():
        await beside.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        follow = asyncio.create_task(real_users.follow(ada, bob))
        await asyncio.sleep(0.2)
        follow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await follow
        await asyncio.sleep(0.1)

    async def followed() -> bool:
        return (await real_users.edge(ada, bob)).following

    assert await _until(followed)


@pytest.mark.real
async def test_a_commit_that_was_not_replicated_is_unknown(real_users):
    """Point 10: warning 01000 comes with a commit that only the primary has."""
    statement = b"DO $$ BEGIN RAISE WARNING 'might not have been replicated to the standby.'; END $$"

    with pytest.raises(StoreUnavailable) as caught:
        await real_users._pool.run(lambda connection: connection.execute(statement), "follow")

    assert caught.value.definite is False
    assert "might not have been replicated" in caught.value.detail


@pytest.mark.real
async def test_a_late_commit_is_not_skipped_by_the_drain(real_users, beside):
    """Point 11: a row with a lower number may become visible later than its successor; it is drained then."""
    ada, bob = await _pair(real_users)
    cyd, dan = (await real_users.create("cyd", "Cyd", "h")).id, (await real_users.create("dan", "Dan", "h")).id
    published: list[str] = []

    async def publish(events):
        published.extend(event.id for event in events)

    async with beside.transaction():
        await beside.execute("SELECT * FROM change_edge(%s::bigint, %s::bigint, 'follow', '', 0, '')", (ada, bob))
        await real_users.follow(cyd, dan)
        assert await real_users.drain_outbox(10, publish) == 1
        assert published == [f"{cyd}-{dan}-1"]

    assert await real_users.drain_outbox(10, publish) == 1
    assert published == [f"{cyd}-{dan}-1", f"{ada}-{bob}-1"]


@pytest.mark.real
async def test_two_concurrent_drains_share_the_rows(real_users):
    """SKIP LOCKED: no row is published twice, none is left."""
    ada, bob = await _pair(real_users)
    for _ in range(20):
        await real_users.follow(ada, bob)
    busy, published = asyncio.Event(), []

    async def slow(events):
        published.extend(events)
        busy.set()
        await asyncio.sleep(0.3)

    async def quick(events):
        published.extend(events)

    first = asyncio.create_task(real_users.drain_outbox(5, slow))
    await busy.wait()
    second = await real_users.drain_outbox(100, quick)

    assert (await first, second) == (5, 15)
    assert len(published) == 20


@pytest.mark.real
async def test_a_connection_that_died_while_idle_is_not_used(real_users, beside):
    """After a failover the next statement uses a new connection and is not lost in an old one."""
    ada, bob = await _pair(real_users)
    await beside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                         "WHERE datname = current_database() AND pid <> pg_backend_pid()")
    await asyncio.sleep(0.1)

    assert (await real_users.follow(ada, bob)).following is True


@pytest.mark.real
async def test_a_session_terminated_during_a_follow_leaves_the_outcome_unknown(real_users, beside):
    """The server reports 57P01, but not whether the transaction committed."""
    ada, bob = await _pair(real_users)
    async with beside.transaction():
        await beside.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        follow = asyncio.create_task(real_users.follow(ada, bob))
        await asyncio.sleep(0.2)
        await beside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%change_edge%' "
                             "AND datname = current_database() AND pid <> pg_backend_pid()")
        with pytest.raises(StoreUnavailable) as caught:
            await follow

    assert caught.value.definite is False


@pytest.mark.real
async def test_a_call_that_got_no_connection_fails_definitely(real_users, beside):
    """A wait in the pool's queue past the deadline is a definite failure."""
    ada, bob = await _pair(real_users)
    real_users._pool.deadline_s = 0.4
    async with beside.transaction():
        await beside.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
        holders = [asyncio.create_task(real_users._pool.run(
            lambda connection: connection.execute("SELECT pg_sleep(1.5)"), "wait", deadline_s=3.0))
            for _ in range(real_users.pool_size)]
        await asyncio.sleep(0.1)
        with pytest.raises(StoreUnavailable) as caught:
            await real_users.follow(ada, bob)
    await asyncio.gather(*holders)

    assert caught.value.definite is True
