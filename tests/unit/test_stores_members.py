"""Connections to one of several PostgreSQL members: to the primary only; others are closed."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg import errors as pg

from system.kernel import settings
from system.kernel.errors import StoreUnavailable
from system.kernel.policies import Policies
from system.observe import stores
from system.stores.postgres import pool as pools
from system.stores.postgres.tokens import PostgresTokens

ONE = "postgresql://tweetlab@127.1.40.1:5432"
THREE = "postgresql://tweetlab@a:1,b:2,c:3/?target_session_attrs=read-write"


class FakeDriver:
    """Replaces the driver. `primary`: the member that accepts read-write connections.

    `urls`: URLs tried, in order.
    """

    def __init__(self, primary: str, up: str = "abc") -> None:
        self.primary, self.up, self.urls, self.names = primary, up, [], {}

    async def connect(self, url, autocommit):
        self.urls.append(url)
        host = url.partition("@")[2][0]
        if host not in self.up or ("read-write" in url and host != self.primary):
            raise psycopg.OperationalError(f"not {host}")
        return FakeConnection(self.names.get(host, []))


class FakeConnection:
    def __init__(self, rows):
        self.rows, self.closed = rows, False

    async def execute(self, statement):
        return self

    async def fetchall(self):
        return [(name,) for name in self.rows]

    async def close(self):
        self.closed = True


@pytest.fixture
def driver(monkeypatch):
    fake = FakeDriver("b")
    monkeypatch.setattr(pools.AsyncConnection, "connect", fake.connect)
    monkeypatch.setattr(pools, "_primaries", {})
    return fake


def hosts(urls):
    return [url.partition("@")[2][0] for url in urls]


@pytest.mark.parametrize(("url", "expected"), [
    (ONE, f"{ONE}/lab"),
    (f"{ONE}/other", f"{ONE}/lab"),
    (THREE, "postgresql://tweetlab@a:1,b:2,c:3/lab?target_session_attrs=read-write"),
])
def test_a_database_is_set_in_a_url_of_one_or_several_members(url, expected):
    """The query, which selects the member, stays after it."""
    assert pools.database_url(url, "lab") == expected


def test_a_url_names_its_members_and_yields_the_url_of_each():
    """With `whatever` the member may have any role; otherwise it must be the primary."""
    lab = pools.database_url(THREE, "lab")

    assert pools.members(lab) == ["a:1", "b:2", "c:3"]
    assert pools.members(ONE) == ["127.1.40.1:5432"]
    assert pools.member_url(lab, "b:2") == "postgresql://tweetlab@b:2/lab?target_session_attrs=read-write"
    assert pools.member_url(lab, "b:2", whatever=True) == "postgresql://tweetlab@b:2/lab"


async def test_a_single_server_is_connected_to_directly_by_its_url(driver):
    """`small` has no overhead."""
    driver.up = "1"
    driver.primary = "1"

    await pools.connect(ONE, 1.0)

    assert driver.urls == [ONE]


async def test_the_member_that_accepted_the_last_connection_is_tried_first(driver):
    """Members are tried in order until one accepts writes; it is tried first from then on."""
    await pools.connect(THREE, 1.0)
    await pools.connect(THREE, 1.0)
    driver.primary = "c"
    await pools.connect(THREE, 1.0)

    assert hosts(driver.urls) == ["a", "b", "b", "b", "a", "c"]


async def test_without_a_primary_the_error_lists_the_answer_of_every_member(driver):
    """A member that allows only reads is no substitute."""
    driver.primary = "none"

    with pytest.raises(psycopg.OperationalError, match=r"a:1: OperationalError not a; b:2: .* not b; c:3: .* not c"):
        await pools.connect(THREE, 1.0)


class Idle:
    """A connection as the pool sees it, always idle."""

    closed = False

    def __init__(self):
        self.info = type("Info", (), {"transaction_status": pools.pq.TransactionStatus.IDLE})
        self.was_closed = False

    def add_notice_handler(self, handler):
        pass

    def fileno(self):
        return 0

    async def close(self):
        self.was_closed = True


@pytest.mark.parametrize(("url", "closes_idle"), [(THREE, True), (ONE, False)])
async def test_a_connection_to_a_standby_is_closed_and_so_are_the_idle_ones(monkeypatch, url, closes_idle):
    """25006 is definite; the connection is closed, and with several members the idle ones too."""
    pool = pools.Pool(url, size=4, knobs=Policies())
    used, idle = Idle(), Idle()
    monkeypatch.setattr(pools.PooledConnection, "usable", lambda pooled: not (pooled.timed_out or pooled.read_only))
    pool._idle = [pools.PooledConnection(idle), pools.PooledConnection(used)]

    async def write(connection):
        raise pg.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")

    with pytest.raises(StoreUnavailable) as problem:
        await pool.run(write, "follow")

    assert problem.value.definite
    assert (used.was_closed, idle.was_closed) == (True, closes_idle)


@pytest.mark.parametrize(("up", "expected"), [("ac", {"x", "y"}), ("abc", {"x", "y", "z"})])
async def test_without_a_primary_revocations_are_the_union_of_all_members_but_one(driver, up, expected):
    """An acknowledged revocation is on two of three members: if one of them lags, the other has it."""
    driver.primary, driver.up, driver.names = "none", up, {"a": ["x"], "b": ["z"], "c": ["x", "y"]}

    assert await PostgresTokens(THREE, "lab", Policies()).revoked() == expected


async def test_one_member_alone_is_not_enough_for_revocations(driver):
    """It may lag: fail closed."""
    driver.primary, driver.up, driver.names = "none", "c", {"c": ["x"]}

    with pytest.raises(StoreUnavailable, match="only 1 of its 3 members returned"):
        await PostgresTokens(THREE, "lab", Policies()).revoked()


def test_the_exporter_queries_every_member_separately():
    """One row per member, each at its own address, primary or not."""
    config = settings.from_env({"TWEETLAB_STORES": json.dumps({**settings.default_stores(21), "postgres": THREE})})

    assert [row[1:] for row in stores.addresses(config) if row[0] == "postgres"] == [
        ("a:1", "postgres-1"), ("b:2", "postgres-2"), ("c:3", "postgres-3")]
