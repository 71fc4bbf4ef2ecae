"""zone_loss on sleeping processes: which nodes die, when they restart, and what an aborted run leaves."""

import asyncio
import types

import pytest

from chaos.faults.table import FAULTS
from system.kernel.errors import CouldNotRun, WrongInput
from system.observe import copies
from system.platform import blueprint
from tests.helpers.sleepers import SleeperLab

ZONE_LOSS = FAULTS["zone_loss"]


@pytest.fixture
def lab():
    made = SleeperLab()
    yield made
    for child in made.sleepers.values():
        child.kill()
        child.wait()


async def test_every_node_of_a_zone_dies_stays_dead_and_restarts_after_the_undo(lab):
    """No node of the zone restarts before the fault is undone; the other zone is not touched."""
    target = await ZONE_LOSS.choose_target(lab, "zone-2")
    others = [lab.sleepers[name].pid for name in ("cat-1", "dog-1")]
    facts = await ZONE_LOSS.inject(lab, target)
    dead = {row.name for row in await lab.status() if row.state == "dead"}

    assert facts == {"killed": 2, "nodes": 2, "primaries": []}
    assert (dead, await ZONE_LOSS.has_taken_effect(lab, target)) == ({"cat-2", "dog-2"}, True)
    assert lab.order[:2] == ["heal cat-2 False", "heal dog-2 False"]
    assert not await ZONE_LOSS.has_recovered(lab, target)

    await ZONE_LOSS.undo(lab, target)
    await ZONE_LOSS.undo(lab, target)

    assert await ZONE_LOSS.has_recovered(lab, target)
    assert [lab.sleepers[name].pid for name in ("cat-1", "dog-1")] == others
    assert all(lab.healing.values())


async def test_a_zone_has_not_recovered_before_its_stores_have_all_copies_again(lab, monkeypatch):
    """A Kafka whose partitions are under-replicated would not survive the loss of the next zone."""
    target = await ZONE_LOSS.choose_target(lab, "zone-1")
    await ZONE_LOSS.inject(lab, target)
    await ZONE_LOSS.undo(lab, target)
    answers = iter([["3 partitions of Kafka are under-replicated"], []])

    async def missing(rows):
        return next(answers)

    monkeypatch.setattr(copies, "missing", missing)

    assert [await ZONE_LOSS.has_recovered(lab, target), await ZONE_LOSS.has_recovered(lab, target)] == [False, True]


async def test_the_target_zone_is_the_zone_of_the_caches_primary(lab, monkeypatch):
    """The current one, after any failover; the record lists the primaries in it."""
    async def primaries(rows):
        return ["dog-2", "cat-1"]

    monkeypatch.setattr(copies, "primaries", primaries)
    target = await ZONE_LOSS.choose_target(lab, "zone")

    assert (target.node, target.facts["primaries"]) == ("zone-2", ["dog-2"])


async def test_an_unhealthy_zone_is_refused_as_a_target_and_nothing_is_changed(lab):
    """The drill would prove nothing."""
    lab.healing["dog-1"] = False
    await lab.kill("dog-1")

    with pytest.raises(CouldNotRun, match=r"zone-1 is unhealthy before the fault.*dog-1 \(dead"):
        await ZONE_LOSS.choose_target(lab, "zone-1")


async def test_a_lab_without_zones_refuses_and_names_a_blueprint_that_has_them(lab):
    """An unknown zone is refused with the zones of this lab."""
    with pytest.raises(WrongInput, match="'zone-7'; zones of this lab: zone-1, zone-2"):
        await ZONE_LOSS.choose_target(lab, "zone-7")
    lab.nodes = blueprint.load("small").nodes
    with pytest.raises(WrongInput, match=r"has none; take it down.*tweetlab up cluster"):
        await ZONE_LOSS.choose_target(lab, "zone-1")


async def test_the_undo_restarts_dead_nodes_and_skips_nodes_that_the_lab_does_not_have(lab):
    """The target is plain JSON in the undo log; since it was written, another lab may have started."""
    target = await ZONE_LOSS.choose_target(lab, "zone-1")
    await ZONE_LOSS.inject(lab, target)
    target.facts["nodes"].append({"name": "cow-1", "pid": 1, "start_ticks": 1})

    await ZONE_LOSS.undo(lab, target)

    assert {row.name for row in await lab.status() if row.state == "dead"} == set()
    assert not any("cow" in step for step in lab.order)


def test_the_replicas_in_the_info_of_a_redis_primary_are_parsed():
    """A reply in the format of INFO."""
    info = {"role": "master", "slave0": "ip=127.1.30.2,port=6379,state=online,offset=12,lag=1", "slave_repl_offset": "3"}

    assert [(row["ip"], row["offset"], row["lag"]) for row in copies.redis_replicas(info)] == [("127.1.30.2", "12", "1")]


def test_a_partition_with_a_replica_out_of_sync_is_under_replicated():
    """As Kafka defines it: fewer in-sync replicas than replicas."""
    parts = [{"replicas": [1, 2, 3], "isr": [1, 2, 3]}, {"replicas": [1, 2, 3], "isr": [2, 3]}]

    assert copies.short_of(parts) == 1


async def test_a_lab_of_single_stores_misses_no_copies():
    """A kind with a single node is not queried."""
    assert await copies.missing([types.SimpleNamespace(kind=kind, address="127.0.0.1:1") for kind in ("redis", "kafka")]) == []


@pytest.mark.parametrize(("status", "missing"), [("200 OK", []), ("412 Precondition Failed", ["MinIO has drives offline"])])
async def test_a_storage_that_cannot_lose_a_node_misses_copies(status, missing):
    """MinIO's maintenance check: would it keep write quorum without this node?"""
    paths = []

    async def answer(reader, writer):
        paths.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        problems = await copies.missing([types.SimpleNamespace(kind="minio", address=here)] * 3)

    assert [problem[:24] for problem in problems] == missing and paths == ["/minio/health/cluster?maintenance=true"]
