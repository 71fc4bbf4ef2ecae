"""Who connects to several members of one PostgreSQL: the primary first and alone; what leads elsewhere is left behind."""

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


class Wire:
    """Stands in for the driver. `primary`: who takes connections that ask for it. `asked`: URLs, in order."""

    def __init__(self, primary: str, up: str = "abc") -> None:
        self.primary, self.up, self.asked, self.names = primary, up, [], {}

    async def connect(self, url, autocommit):
        self.asked.append(url)
        host = url.partition("@")[2][0]
        if host not in self.up or ("read-write" in url and host != self.primary):
            raise psycopg.OperationalError(f"not {host}")
        return Line(self.names.get(host, []))


class Line:
    def __init__(self, rows):
        self.rows, self.closed = rows, False

    async def execute(self, statement):
        return self

    async def fetchall(self):
        return [(name,) for name in self.rows]

    async def close(self):
        self.closed = True


@pytest.fixture
def wire(monkeypatch):
    made = Wire("b")
    monkeypatch.setattr(pools.AsyncConnection, "connect", made.connect)
    monkeypatch.setattr(pools, "_primaries", {})
    return made


def hosts(urls):
    return [url.partition("@")[2][0] for url in urls]


@pytest.mark.parametrize(("url", "expected"), [
    (ONE, f"{ONE}/lab"),
    (f"{ONE}/other", f"{ONE}/lab"),
    (THREE, "postgresql://tweetlab@a:1,b:2,c:3/lab?target_session_attrs=read-write"),
])
def test_a_database_is_put_into_a_url_of_one_or_several_members(url, expected):
    """What is asked of the members stays behind it."""
    assert pools.database_url(url, "lab") == expected


def test_a_url_names_its_members_and_yields_the_url_of_each():
    """With `whatever` no matter what it is; otherwise as the primary only."""
    lab = pools.database_url(THREE, "lab")

    assert pools.members(lab) == ["a:1", "b:2", "c:3"]
    assert pools.members(ONE) == ["127.1.40.1:5432"]
    assert pools.member_url(lab, "b:2") == "postgresql://tweetlab@b:2/lab?target_session_attrs=read-write"
    assert pools.member_url(lab, "b:2", whatever=True) == "postgresql://tweetlab@b:2/lab"


async def test_a_single_server_is_connected_to_by_its_own_url_at_once(wire):
    """`small` pays nothing."""
    wire.up = "1"
    wire.primary = "1"

    await pools.connect(ONE, 1.0)

    assert wire.asked == [ONE]


async def test_the_member_that_took_the_last_connection_is_tried_first(wire):
    """Members are asked in their order until one lets write; from then on it is asked first, until it is another."""
    await pools.connect(THREE, 1.0)
    await pools.connect(THREE, 1.0)
    wire.primary = "c"
    await pools.connect(THREE, 1.0)

    assert hosts(wire.asked) == ["a", "b", "b", "b", "a", "c"]


async def test_without_a_primary_nothing_is_connected_to_and_each_answer_is_told(wire):
    """A member that still lets read is no substitute."""
    wire.primary = "none"

    with pytest.raises(psycopg.OperationalError, match=r"a:1: OperationalError not a; b:2: .* not b; c:3: .* not c"):
        await pools.connect(THREE, 1.0)


class Idle:
    """A connection as a seat knows it, idle for ever."""

    closed = False

    def __init__(self):
        self.info = type("Info", (), {"transaction_status": pools.pq.TransactionStatus.IDLE})
        self.gone = False

    def add_notice_handler(self, handler):
        pass

    def fileno(self):
        return 0

    async def close(self):
        self.gone = True


@pytest.mark.parametrize(("url", "left"), [(THREE, True), (ONE, False)])
async def test_a_connection_that_leads_to_a_standby_is_left_and_so_are_the_idle_ones(monkeypatch, url, left):
    """25006 is definite; the connection is closed, and with several members the idle ones, that lead to the same, too."""
    pool = pools.Pool(url, size=4, knobs=Policies())
    used, idle = Idle(), Idle()
    monkeypatch.setattr(pools.Seat, "usable", lambda seat: not (seat.cut or seat.left))
    pool._idle = [pools.Seat(idle), pools.Seat(used)]

    async def write(connection):
        raise pg.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")

    with pytest.raises(StoreUnavailable) as problem:
        await pool.run(write, "follow")

    assert problem.value.definite
    assert (used.gone, idle.gone) == (True, left)


@pytest.mark.parametrize(("up", "expected"), [("ac", {"x", "y"}), ("abc", {"x", "y", "z"})])
async def test_without_a_primary_all_members_but_one_tell_revocations_together(wire, up, expected):
    """An acknowledged one stands on two of three: whoever of them lags, the other knows."""
    wire.primary, wire.up, wire.names = "none", up, {"a": ["x"], "b": ["z"], "c": ["x", "y"]}

    assert await PostgresTokens(THREE, "lab", Policies()).revoked() == expected


async def test_one_member_alone_does_not_tell_revocations(wire):
    """It may lag: fail closed."""
    wire.primary, wire.up, wire.names = "none", "c", {"c": ["x"]}

    with pytest.raises(StoreUnavailable, match="only 1 of its 3 members returned"):
        await PostgresTokens(THREE, "lab", Policies()).revoked()


def test_the_exporter_asks_every_member_by_itself():
    """One row a member, each at its own address, primary or not."""
    told = settings.from_env({"TWEETLAB_STORES": json.dumps({**settings.default_stores(21), "postgres": THREE})})

    assert [row[1:] for row in stores.addresses(told) if row[0] == "postgres"] == [
        ("a:1", "postgres-1"), ("b:2", "postgres-2"), ("c:3", "postgres-3")]
