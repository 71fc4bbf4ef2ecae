"""Regions that are cut off and lines that are slow, on real servers: a cache with its sentinels in two regions and a witness.

The scenario on all stores is `region_cut`; here is what it stands on: a zombie that wakes up, a runner that dies, a measure.
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
from system.platform.servers import wan as carrier
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
    made = native.Lab(tmp_path, RANGE)
    await made.up(CACHE, stores_only=True)
    ends_s = time.monotonic() + 10
    while await copies.missing(await made.status()) and time.monotonic() < ends_s:
        await asyncio.sleep(0.1)
    yield made
    await made.down(purge=True)


async def rows_of(lab, kind):
    return [row for row in await lab.status() if row.kind == kind]


async def cuts(lab):
    return [row for row in await carrier.ask(lab.paths, {"op": "look"}) if row["cut"]]


def strike(lab, *wanted):
    return asyncio.create_task(schedule.run(wanted, lab, time.monotonic_ns(), lab.paths.state))


async def test_a_primary_that_is_cut_off_lives_is_replaced_and_follows_when_it_is_joined(lab):
    """Nobody heals or kills it, though nobody sees it well; an election that found no majority is repeated within the time."""
    before = {row.name: (row.pid, row.restarts) for row in await lab.status()}
    cut = strike(lab, spec.Fault(1.6, "region_cut", "region", for_s=15.0))
    await asyncio.sleep(13.0)
    during = {row.name: row for row in await lab.status()}
    told = await asyncio.to_thread(sentinel.named, [row.address for row in during.values() if row.kind == "sentinel"])
    [record] = await asyncio.wait_for(cut, 60)
    old = next(row for row in during.values() if row.name in record.facts["primaries"])
    after = {row.name: (row.pid, row.restarts) for row in await lab.status()}

    assert (record.void, record.facts["nodes"], record.recovered_ns is not None) == ("", 2, True)
    assert 0 < (record.effect_ns - record.injected_ns) / 1e9 < 5
    assert old.health != "healthy" and old.state == "healthy" and not old.auto_heal
    assert told and told != old.address
    assert after == before
    assert await cuts(lab) == [] and all(row.auto_heal for row in await lab.status())
    async with redis.Redis(host=old.address.partition(":")[0]) as client:
        assert (await client.info("replication"))["role"] == "slave"


async def test_a_runner_killed_in_the_middle_of_a_cut_leaves_no_region_cut(lab):
    """Its watchdog joins the lines, though the carrier died meanwhile and came back with the cut."""
    runner = await striking(lab.paths, "region_cut", "region")
    struck = len(await cuts(lab))
    await lab.kill("wan-1")
    runner.kill()
    await runner.wait()
    log, ends_s = undo.UndoLog(undo.path_of(lab.paths.state)), time.monotonic() + 30
    while log.pending() and time.monotonic() < ends_s:
        await asyncio.sleep(0.2)

    assert (struck, log.pending(), await cuts(lab)) == (6, [], [])
    assert all(row.auto_heal for row in await lab.status())


async def test_a_lab_that_goes_down_takes_its_cuts_with_it(lab):
    """The sweep says that the fault went with the lab: so it must not stand in the next one."""
    aim = await table.FAULTS["region_cut"].choose_target(lab, "west")
    await table.FAULTS["region_cut"].inject(lab, aim)
    await lab.down()
    await lab.up(CACHE, stores_only=True)

    assert await cuts(lab) == []


async def test_slow_lines_are_measured_from_inside_and_are_calm_afterwards(lab):
    """Between regions: a round trip of 160 ms; to the users nothing changes."""
    slow = strike(lab, spec.Fault(1.6, "wan_slow", "lines", for_s=4.0, delay_s=0.08, loss=0.01))
    await asyncio.sleep(4.5)
    door = (await rows_of(lab, "sentinel"))[1].address
    far_s, near_s = await wan_faults.connect_s(lab.paths, 1, door), await wan_faults.connect_s(lab.paths, 4, door)
    [record] = await asyncio.wait_for(slow, 40)
    calm_s = await wan_faults.connect_s(lab.paths, 1, door)

    assert (record.void, record.recovered_ns is not None) == ("", True)
    assert near_s < 0.020 < calm_s < 0.160 <= far_s


VOTERS = blueprint.Blueprint("voters", tuple(node for kind in ("wan", "etcd") for node in ALL.of_kind(kind)))


@pytest.fixture
async def voters(tmp_path):
    made = native.Lab(tmp_path, RANGE)
    await made.up(VOTERS, stores_only=True)
    yield made
    await made.down(purge=True)


async def told(lab):
    """Return what each etcd says of itself, by name."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0)) as web:
        found = {}
        for row in await rows_of(lab, "etcd"):
            async with web.post(f"http://{row.address}/v3/maintenance/status", json={}) as answer:
                found[row.name] = await answer.json()
        return found


async def terms(lab):
    """Return the number of the last election and its winner, as all of them know it."""
    return {(each["raftTerm"], each["leader"]) for each in (await told(lab)).values()}


async def leads(lab):
    return next(name for name, each in (await told(lab)).items() if each["header"]["member_id"] == each["leader"])


@requires(packages.ETCD)
async def test_a_voter_that_was_cut_off_deposes_nobody_when_it_is_joined(voters):
    """Alone it votes and votes; if its number counted, the others would elect again, and PostgreSQL's primary lose its lock."""
    cut = "east" if await leads(voters) != "etcd-1" else "west"
    aim = await table.FAULTS["region_cut"].choose_target(voters, cut)
    before = await terms(voters)
    await table.FAULTS["region_cut"].inject(voters, aim)
    await asyncio.sleep(8.0)
    await table.FAULTS["region_cut"].undo(voters, aim)
    await asyncio.sleep(3.0)

    assert await terms(voters) == before and len(before) == 1
