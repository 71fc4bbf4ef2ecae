"""The faults on real servers: they take effect, the effect is confirmed, and a killed runner leaves a healthy lab."""

import asyncio
import time

import pytest
from redis import asyncio as redis

from chaos import schedule, undo
from chaos.faults import table
from scenarios import spec
from system.kernel.errors import CouldNotRun
from system.platform import blueprint, native
from system.platform.blueprint import Blueprint
from system.platform.install import packages
from system.platform.process import procs
from tests.helpers.interrupted_runner import striking
from tests.helpers.requirements import requires

pytestmark = [
    pytest.mark.real,
    requires(packages.REDIS, packages.POSTGRES),
]
RANGE = 213
SMALL = blueprint.load("small")
QUICK = Blueprint("quick", (*SMALL.of_kind("redis"), *SMALL.of_kind("postgres")))


@pytest.fixture
async def lab(tmp_path):
    started = native.Lab(tmp_path, RANGE)
    await started.up(QUICK, stores_only=True)
    yield started
    await started.down(purge=True)


async def node(lab, name):
    return next(row for row in await lab.status() if row.name == name)


async def test_a_killed_redis_is_dead_and_then_healthy_in_a_new_process(lab):
    """The record has injection, effect and recovery, in this order; the undo log is closed."""
    before = await node(lab, "redis-1")
    [record] = await schedule.run([spec.Fault(0.2, "kill", "redis-1")], lab, time.monotonic_ns(), lab.paths.state)
    after = await node(lab, "redis-1")

    assert (record.void, record.target) == ("", "redis-1")
    assert record.start_ns <= record.injected_ns <= record.effect_ns <= record.recovered_ns
    assert not procs.is_alive(before.pid, before.start_ticks)
    assert (after.health, after.restarts) == ("healthy", before.restarts + 1)
    assert undo.UndoLog(undo.path_of(lab.paths.state)).pending() == []


async def test_a_paused_redis_keeps_its_keys_and_answers_nothing_until_it_is_resumed(lab):
    """The effect is confirmed while the process lives; after the undo it is the same process with the same keys."""
    before = await node(lab, "redis-1")
    host, _, port = before.address.rpartition(":")
    async with redis.Redis(host=host, port=int(port), socket_timeout=None) as client:
        await client.set("parrot", "resting")
        start_ns = time.monotonic_ns()
        struck = asyncio.create_task(
            schedule.run([spec.Fault(0.0, "pause", "redis", for_s=4.0)], lab, start_ns, lab.paths.state))
        while not (during := await node(lab, "redis-1")).paused:
            await asyncio.sleep(0.05)
        answer = await client.get("parrot")
        answered_ns = time.monotonic_ns()
        [record] = await struck
    after = await node(lab, "redis-1")

    assert (record.void, record.held, record.facts) == ("", True, {"paused_pid": before.pid})
    assert record.injected_ns < record.effect_ns < record.undone_ns < record.recovered_ns
    assert 4.0 <= (record.undone_ns - record.injected_ns) / 1e9 < 5.0 and answered_ns - record.injected_ns >= 4_000_000_000
    assert (during.health.startswith("no answer"), during.state, answer) == (True, "healthy", b"resting")
    assert (after.paused, after.health, after.pid, after.restarts) == (False, "healthy", before.pid, before.restarts)


async def test_a_paused_node_that_was_killed_recovers_in_a_new_process(lab):
    """Healing replaces what hangs: the frozen process dies, and the undo finds nothing to resume."""
    before = await node(lab, "redis-1")
    struck = asyncio.create_task(
        schedule.run([spec.Fault(0.0, "pause", "redis-1", for_s=8.0)], lab, time.monotonic_ns(), lab.paths.state))
    while not (await node(lab, "redis-1")).paused:
        await asyncio.sleep(0.05)
    await asyncio.sleep(2.5)  # the effect probe needs its two seconds without an answer
    await lab.kill("redis-1")
    [record] = await struck
    after = await node(lab, "redis-1")

    assert (record.void, record.recovered_ns is not None) == ("", True)
    assert not procs.is_alive(before.pid, before.start_ticks)
    assert (after.paused, after.health, after.restarts) == (False, "healthy", before.restarts + 1)


async def test_a_node_that_is_paused_already_is_no_target(lab):
    """The drill would prove nothing."""
    await lab.pause("redis-1")
    try:
        with pytest.raises(CouldNotRun, match="redis-1 is paused already"):
            await table.FAULTS["pause"].choose_target(lab, "redis-1")
    finally:
        await lab.resume("redis-1")


async def test_a_runner_killed_during_a_pause_leaves_a_running_node(lab):
    """The watchdog resumes it: else it would stay frozen for ever."""
    runner = await striking(lab.paths, "pause", "redis-1")
    frozen = await node(lab, "redis-1")
    runner.kill()
    await runner.wait()
    deadline_s = time.monotonic() + 20
    while (await node(lab, "redis-1")).health != "healthy" and time.monotonic() < deadline_s:
        await asyncio.sleep(0.1)

    assert frozen.paused
    assert (await node(lab, "redis-1")).health == "healthy"


async def test_a_cache_loss_drops_every_key_and_recovers_with_new_keys(lab):
    """The canary key is missing; the fault has recovered once a tenth of the keys exists again."""
    host, _, port = (await node(lab, "redis-1")).address.rpartition(":")
    async with redis.Redis(host=host, port=int(port)) as client:
        await client.mset({f"h:{n}": "x" for n in range(100)})
        start_ns = time.monotonic_ns()
        struck = asyncio.create_task(
            schedule.run([spec.Fault(0.0, "cache_loss", "redis")], lab, start_ns, lab.paths.state))
        while await client.dbsize() > 50:
            await asyncio.sleep(0.02)
        left = await client.keys("h:*")
        await asyncio.sleep(0.5)
        refilled_ns = time.monotonic_ns()
        await client.mset({f"h:{n}": "x" for n in range(10)})
        [record] = await struck

    assert left == []
    assert (record.void, record.facts["keys_before"], record.facts["keys_after"]) == ("", 101, 0)
    assert record.effect_ns < refilled_ns < record.recovered_ns


async def test_a_foreign_redis_at_the_nodes_address_is_left_alone(lab):
    """The server must be the process that the supervisor owns."""
    status = await node(lab, "redis-1")

    class Liar:
        paths = lab.paths

        async def status(self):
            other = await node(lab, "postgres-1")
            return [type(status)(**{**vars(status), "pid": other.pid, "start_ticks": other.start_ticks})]

    with pytest.raises(CouldNotRun, match="is not this lab's"):
        await table.FAULTS["cache_loss"].choose_target(Liar(), "redis-1")


async def test_a_runner_killed_during_a_fault_leaves_a_healthy_lab(lab):
    """Without auto-heal the dead node would stay dead; the watchdog undoes the fault, which restarts it."""
    runner = await striking(lab.paths, "kill", "redis-1")
    dead = await node(lab, "redis-1")
    runner.kill()
    await runner.wait()
    deadline_s = time.monotonic() + 20
    while (await node(lab, "redis-1")).health != "healthy" and time.monotonic() < deadline_s:
        await asyncio.sleep(0.1)

    assert dead.health != "healthy"
    assert (await node(lab, "redis-1")).health == "healthy"
