"""Cut-off regions and slow lines on real servers: a cache with its sentinels in two regions and a witness.

The scenario with all stores is `region_cut`; these drills test its parts: an isolated primary that returns, a
killed runner, and the measurement of a line.
"""

import asyncio
import time

import aiohttp
import pytest
from redis import asyncio as redis

from chaos import schedule, undo
from chaos.faults import table, wan_faults
from scenarios import spec
from system.observe import copies
from system.platform import blueprint, native
from system.platform.install import packages
from system.platform.servers import sentinel
from system.platform.servers import wan as wan_server
from tests.helpers.interrupted_runner import striking
from tests.helpers.requirements import needs_regions, requires

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.campaign,
    pytest.mark.timeout(120),
    needs_regions,
    requires(packages.REDIS, packages.SENTINEL),
]
RANGE = 236
ALL = blueprint.load("two_regions")
CACHE = blueprint.Blueprint("cache", tuple(node for kind in ("wan", "redis", "sentinel") for node in ALL.of_kind(kind)))

@pytest.fixture
async def lab(tmp_path):
    native_lab = native.Lab(tmp_path, RANGE)
    await native_lab.up(CACHE, stores_only=True)
    ends_s = time.monotonic() + 10
    while await copies.missing(await native_lab.status()) and time.monotonic() < ends_s:
        await asyncio.sleep(0.1)
    yield native_lab
    await native_lab.down(purge=True)


async def rows_of(lab, kind):
    return [row for row in await lab.status() if row.kind == kind]


async def cuts(lab):
    return [row for row in await wan_server.ask(lab.paths, {"op": "look"}) if row["cut"]]


def inject(lab, *wanted):
    return asyncio.create_task(schedule.run(wanted, lab, time.monotonic_ns(), lab.paths.state))


async def test_a_cut_off_primary_keeps_running_is_replaced_and_rejoins_as_replica(lab):
    """It is neither restarted nor killed, though it is unhealthy.

    An election without a majority is repeated in time.
    """
    before = {row.name: (row.pid, row.restarts) for row in await lab.status()}
    cut = inject(lab, spec.Fault(1.6, "region_cut", "region", for_s=15.0))
    await asyncio.sleep(13.0)
    during = {row.name: row for row in await lab.status()}
    sentinels = [row.address for row in during.values() if row.kind == "sentinel"]
    primary = await asyncio.to_thread(sentinel.elected_primary, sentinels)
    [record] = await asyncio.wait_for(cut, 60)
    old = next(row for row in during.values() if row.name in record.facts["primaries"])
    after = {row.name: (row.pid, row.restarts) for row in await lab.status()}

    assert (record.void, record.facts["nodes"], record.recovered_ns is not None) == ("", 2, True)
    assert 0 < (record.effect_ns - record.injected_ns) / 1e9 < 5
    assert old.health != "healthy" and old.state == "healthy" and not old.auto_heal
    assert primary and primary != old.address
    assert after == before
    assert await cuts(lab) == [] and all(row.auto_heal for row in await lab.status())
    async with redis.Redis(host=old.address.partition(":")[0]) as client:
        assert (await client.info("replication"))["role"] == "slave"


async def test_a_runner_killed_during_a_cut_leaves_no_region_cut(lab):
    """Its watchdog restores the lines, though the WAN emulator was restarted with the cut."""
    runner = await striking(lab.paths, "region_cut", "region")
    cut_lines = len(await cuts(lab))
    await lab.kill("wan-1")
    runner.kill()
    await runner.wait()
    log, ends_s = undo.UndoLog(undo.path_of(lab.paths.state)), time.monotonic() + 30
    while log.pending() and time.monotonic() < ends_s:
        await asyncio.sleep(0.2)

    assert (cut_lines, log.pending(), await cuts(lab)) == (6, [], [])
    assert all(row.auto_heal for row in await lab.status())


async def test_cuts_end_when_the_lab_goes_down(lab):
    """The undo log treats the fault as ended with the lab, so the next lab must not have it."""
    target = await table.FAULTS["region_cut"].choose_target(lab, "west")
    await table.FAULTS["region_cut"].inject(lab, target)
    await lab.down()
    await lab.up(CACHE, stores_only=True)

    assert await cuts(lab) == []


async def test_slow_lines_are_measured_from_inside_and_recover(lab):
    """Between regions: a round trip of 160 ms; the users' lines do not change."""
    slow = inject(lab, spec.Fault(1.6, "wan_slow", "lines", for_s=4.0, delay_s=0.08, loss=0.01))
    await asyncio.sleep(4.5)
    address = (await rows_of(lab, "sentinel"))[1].address
    far_s, near_s = await wan_faults.connect_s(lab.paths, 1, address), await wan_faults.connect_s(lab.paths, 4, address)
    [record] = await asyncio.wait_for(slow, 40)
    default_s = await wan_faults.connect_s(lab.paths, 1, address)

    assert (record.void, record.recovered_ns is not None) == ("", True)
    assert near_s < 0.020 < default_s < 0.160 <= far_s


VOTERS = blueprint.Blueprint("voters", tuple(node for kind in ("wan", "etcd") for node in ALL.of_kind(kind)))


@pytest.fixture
async def voters(tmp_path):
    native_lab = native.Lab(tmp_path, RANGE)
    await native_lab.up(VOTERS, stores_only=True)
    yield native_lab
    await native_lab.down(purge=True)


async def statuses(lab):
    """Return the status of each etcd member, by name."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as web:
        replies = {}
        for row in await rows_of(lab, "etcd"):
            async with web.post(f"http://{row.address}/v3/maintenance/status", json={}) as answer:
                replies[row.name] = await answer.json()
        return replies


async def terms(lab):
    """Return the (term, leader) pairs that the members report; one if they agree."""
    return {(each["raftTerm"], each["leader"]) for each in (await statuses(lab)).values()}


async def leader(lab):
    return next(name for name, each in (await statuses(lab)).items() if each["header"]["member_id"] == each["leader"])


@requires(packages.ETCD)
async def test_a_member_that_was_cut_off_deposes_no_leader_when_it_rejoins(voters):
    """Cut off, it starts elections.

    If its term counted, the others would elect again, and PostgreSQL's primary lose its key.
    """
    cut = "east" if await leader(voters) != "etcd-1" else "west"
    target = await table.FAULTS["region_cut"].choose_target(voters, cut)
    before = await terms(voters)
    await table.FAULTS["region_cut"].inject(voters, target)
    await asyncio.sleep(8.0)
    await table.FAULTS["region_cut"].undo(voters, target)
    await asyncio.sleep(3.0)

    assert await terms(voters) == before and len(before) == 1
