"""Three PostgreSQL members under Patroni: acknowledged writes survive the primary, and one member alone
acknowledges nothing.

A lab of its own with only etcd and PostgreSQL: a failover is the same there, and it is up in ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import psycopg
import pytest

from system.kernel.errors import LabError, StoreUnavailable
from system.kernel.policies import Policies
from system.platform import blueprint, health, native
from system.platform.blueprint import Blueprint
from system.platform.install import packages
from system.platform.process import cgroups, procs
from system.platform.servers import services
from system.platform.servers.postgres import ROLE
from system.stores.postgres import pool as pools
from system.stores.postgres.tokens import PostgresTokens
from system.stores.postgres.users import PostgresUsers
from tests.helpers.requirements import requires

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.real,
    pytest.mark.slow,
    requires(*packages.BY_BLUEPRINT["cluster"]),
]
RANGE = 223
CLUSTER = blueprint.load("cluster")
MEMBERS = Blueprint("members", (*CLUSTER.of_kind("etcd"), *CLUSTER.of_kind("postgres")))
NEW_PRIMARY_S = 12.0  # measured 5.6 to 8.9 s; ttl 6
WRITERS = 4


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Three members of etcd and of PostgreSQL, all healthy; removed with their data."""
    native_lab = native.Lab(tmp_path_factory.mktemp("members"), RANGE)
    asyncio.run(native_lab.up(MEMBERS, stores_only=True))
    yield native_lab
    asyncio.run(native_lab.down(purge=True))


@pytest.fixture
async def users(lab):
    """The user store over all members, once all of them are healthy again after the previous test."""
    await _all_healthy(lab)
    store = PostgresUsers(services.stores(MEMBERS, lab.plan)["postgres"], "drill", Policies())
    await store.prepare()
    yield store
    await store.close()


class Writers:
    """Follow other users without a pause, each once.

    `ok`, `failed`, `unknown`: the ids of the followed users, by outcome.
    """

    def __init__(self, users, followers):
        self.users, self.me, self.others = users, followers[0], iter(followers[1:])
        self.ok, self.failed, self.unknown, self.last_ok_s, self.longest_s = [], [], [], time.monotonic(), 0.0

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(self._write()) for _ in range(WRITERS)]
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _write(self):
        for other in self.others:
            self.unknown.append(other)  # until there is an answer
            try:
                await self.users.follow(self.me, other)
            except LabError as problem:
                if problem.definite:
                    self.unknown.remove(other)
                    self.failed.append(other)
                await asyncio.sleep(0.02)
                continue
            self.unknown.remove(other)
            self.ok.append(other)
            now_s = time.monotonic()
            self.longest_s, self.last_ok_s = max(self.longest_s, now_s - self.last_ok_s), now_s


async def _writers(users, count=60_000):
    rows = await users._pool.run(_many(count), "create users", deadline_s=60)
    return Writers(users, rows)


def _many(count):
    async def work(connection):
        answer = await connection.execute(
            "WITH made AS (INSERT INTO users (username, name, password_hash, created_ms) SELECT 'd' || nextval('users_id_seq'), "
            "'Drill', 'h', 0 FROM generate_series(1, %s) RETURNING id), "
            "counted AS (INSERT INTO counters (user_id) SELECT id FROM made) SELECT id FROM made", (count,))
        return [row[0] for row in await answer.fetchall()]

    return work


async def _primary(lab, without=""):
    address = await health.postgres_primary([a for a in _addresses(lab) if a != without], ROLE, "postgres")
    return address, _addresses(lab)[address]


def _addresses(lab):
    return {lab.plan.of("postgres", node.instance): node.name for node in MEMBERS.of_kind("postgres")}


async def _until(condition, what, timeout_s):
    began = time.monotonic()
    while time.monotonic() - began < timeout_s:
        with contextlib.suppress(health.Unhealthy, StoreUnavailable):
            if await condition():
                return time.monotonic() - began
        await asyncio.sleep(0.05)
    return pytest.fail(f"{what} did not happen within {timeout_s} s")


async def _all_healthy(lab):
    async def healthy():
        return all(row.health == "healthy" for row in await lab.status())

    return await _until(healthy, "that every member takes part", 60.0)


async def test_every_acknowledged_follow_survives_the_loss_of_the_primary(lab, users):
    """Around a kill of the node: every acknowledged follow is stored, no definitely failed one is."""
    address, old = await _primary(lab)

    async with await _writers(users) as writers:
        await _until(lambda: _more(writers, 50), "fifty acknowledged follows", 30.0)
        before = len(writers.ok)
        await lab.kill(old)
        took_s = await _until(lambda: _primary(lab, without=address), "a new primary", NEW_PRIMARY_S)
        new = (await _primary(lab, without=address))[1]
        during = len(writers.ok)
        await _until(lambda: _more(writers, during), "an acknowledged follow", 10.0)
        await asyncio.sleep(2.0)
    rejoined_s = await _all_healthy(lab)

    stored = set((await users.all_edges())[1].tolist())
    print(f"\n{old} -> {new} in {took_s:.1f} s, no follow for {writers.longest_s:.1f} s, {old} streams {rejoined_s:.1f} s later; "
          f"ok {len(writers.ok)}, failed {len(writers.failed)}, unknown {len(writers.unknown)}")
    assert before > 50
    assert len(writers.ok) > during
    assert [user for user in writers.ok if user not in stored] == []
    assert [user for user in writers.failed if user in stored] == []
    assert new != old
    assert await health.postgres_execute(address, ROLE, "postgres", health.IS_PRIMARY) == "SELECT 0"  # it rejoined as a standby
    assert next(row for row in await lab.status() if row.name == old).restarts >= 1


async def _more(writers, than):
    return len(writers.ok) > than


async def test_writes_continue_after_the_loss_of_a_standby(lab, users):
    """Patroni makes the other standby synchronous: a pause of a second or two, no failover."""
    address, primary = await _primary(lab)
    synchronous = await _synchronous(address)

    async with await _writers(users) as writers:
        await asyncio.sleep(1.0)
        await _lose(lab, synchronous)
        await asyncio.sleep(8.0)
        late = len(writers.ok)
        await asyncio.sleep(1.0)
    await lab.auto_heal(synchronous, True)

    stored = set((await users.all_edges())[1].tolist())
    print(f"\n{synchronous} lost: no follow for {writers.longest_s:.1f} s; ok {len(writers.ok)}, unknown {len(writers.unknown)}")
    assert len(writers.ok) > late
    assert writers.longest_s < 6.0
    assert [user for user in writers.ok if user not in stored] == []
    assert (await _primary(lab))[1] == primary


async def _synchronous(address):
    async with await psycopg.AsyncConnection.connect(f"postgresql://{ROLE}@{address}/postgres", autocommit=True) as connection:
        rows = await connection.execute("SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'")
        return (await rows.fetchall())[0][0]


async def test_a_primary_without_standbys_acknowledges_nothing(lab, users):
    """Strict: without a synchronous standby a follow is unknown, never ok.

    With one again it succeeds, also if repeated.
    """
    me, other = (await _writers(users, 2)).me, await users._pool.run(_many(1), "create a user")
    primary = (await _primary(lab))[1]
    standbys = [name for name in _addresses(lab).values() if name != primary]

    await asyncio.gather(*(lab.stop_node(name) for name in standbys))
    with pytest.raises(StoreUnavailable) as first:
        await users.follow(me, other[0])
    with pytest.raises(StoreUnavailable) as repeated:
        await users.follow(me, other[0])
    await asyncio.gather(*(lab.start_node(name) for name in standbys))

    assert (first.value.definite, repeated.value.definite) == (False, False)
    await _until(lambda: _follows(users, me, other[0]), "an acknowledged follow", 10.0)


async def _follows(users, me, other):
    await users.follow(me, other)
    return True


async def test_revocations_are_readable_without_a_primary_but_not_from_one_member(lab, users):
    """Point 16: two members together have every acknowledged revocation.

    One alone may lag, so it is refused.
    """
    tokens = PostgresTokens(services.stores(MEMBERS, lab.plan)["postgres"], "drill", Policies())
    await tokens.prepare()
    first = (await _primary(lab))[1]
    second = next(name for name in _addresses(lab).values() if name != first)
    try:
        await tokens.revoke("a.7", 600)
        await _lose(lab, first)
        without_primary = await tokens.revoked()
        await _lose(lab, second)
        with pytest.raises(StoreUnavailable, match="only 1 of its 3 members"):
            await tokens.revoked()
    finally:
        for name in (first, second):
            await lab.auto_heal(name, True)
        await tokens.close()

    assert "a.7" in without_primary


async def _lose(lab, name):
    await lab.auto_heal(name, False)
    await lab.kill(name)


async def test_a_frozen_primary_acknowledges_nothing_when_it_resumes(lab, users):
    """For a moment it still acts as primary.

    No standby replicates from it, so its commit waits until it is demoted.
    """
    me, other = (await _writers(users, 2)).me, await users._pool.run(_many(1), "create a user")
    address, frozen = await _primary(lab)
    url = pools.member_url(pools.database_url(services.stores(MEMBERS, lab.plan)["postgres"], "drill"), address, whatever=True)
    old = await psycopg.AsyncConnection.connect(url, autocommit=True)
    pids = await _pids(lab, frozen)

    _signal(pids, signal.SIGSTOP)
    try:
        took_s = await _until(lambda: _primary(lab, without=address), "a new primary", NEW_PRIMARY_S + 5.0)
        await _until(lambda: _follows(users, other[0], me), "a follow at the new primary", 15.0)
    finally:
        _signal(pids, signal.SIGCONT)
    warnings = []
    old.add_notice_handler(lambda notice: warnings.append(notice.sqlstate))
    acknowledged = False
    with contextlib.suppress(psycopg.Error, TimeoutError):
        async with asyncio.timeout(20.0):
            await old.execute("INSERT INTO follows (follower_id, followee_id, following, version) VALUES (%s, %s, true, 1)",
                              (me, other[0]))
            acknowledged = "01000" not in warnings
    await old.close()
    await _all_healthy(lab)

    print(f"\n{frozen} frozen: a new primary after {took_s:.1f} s; resumed, it acknowledged: {acknowledged}, warnings {warnings}")
    assert not acknowledged
    assert other[0] not in (await users.following(me, 0, 10))
    assert (await _primary(lab))[1] != frozen


async def _pids(lab, name):
    groups = cgroups.open_groups(lab.paths.lab_id)
    if groups.kind != "none":
        return groups.pids(name)
    pid = next(row.pid for row in await lab.status() if row.name == name)
    roots = [pid, *procs.escaped(lab.paths.data(name) / "postmaster.pid", lab.paths.lab_id, name)]
    return [member for root in roots for member in (root, *procs.descendants(root))]


def _signal(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
