"""The loss of a zone, on processes that sleep: who dies, who may heal when, and what an aborted run leaves."""

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
def house():
    made = SleeperLab()
    yield made
    for child in made.sleepers.values():
        child.kill()
        child.wait()


async def test_a_whole_zone_dies_stays_dead_and_comes_back_in_new_processes(house):
    """Nobody of it heals before the fault is undone; the other zone is not touched."""
    aim = await ZONE_LOSS.aim(house, "zone-2")
    others = [house.sleepers[name].pid for name in ("cat-1", "dog-1")]
    told = await ZONE_LOSS.inject(house, aim)
    dead = {row.name for row in await house.status() if row.state == "dead"}

    assert told == {"killed": 2, "nodes": 2, "primaries": []}
    assert (dead, await ZONE_LOSS.bites(house, aim)) == ({"cat-2", "dog-2"}, True)
    assert house.order[:2] == ["heal cat-2 False", "heal dog-2 False"]
    assert not await ZONE_LOSS.gone(house, aim)

    await ZONE_LOSS.undo(house, aim)
    await ZONE_LOSS.undo(house, aim)

    assert await ZONE_LOSS.gone(house, aim)
    assert [house.sleepers[name].pid for name in ("cat-1", "dog-1")] == others
    assert all(house.healing.values())


async def test_a_zone_is_not_back_before_its_stores_have_all_copies_again(house, monkeypatch):
    """A Kafka whose partitions are under-replicated would not survive the loss of the next zone."""
    aim = await ZONE_LOSS.aim(house, "zone-1")
    await ZONE_LOSS.inject(house, aim)
    await ZONE_LOSS.undo(house, aim)
    answers = iter([["3 partitions of Kafka are under-replicated"], []])

    async def missing(rows):
        return next(answers)

    monkeypatch.setattr(copies, "missing", missing)

    assert [await ZONE_LOSS.gone(house, aim), await ZONE_LOSS.gone(house, aim)] == [False, True]


async def test_the_target_zone_is_the_one_of_the_caches_primary(house, monkeypatch):
    """Whichever that is after the failovers so far; the record keeps which primaries died with it."""
    async def primaries(rows):
        return ["dog-2", "cat-1"]

    monkeypatch.setattr(copies, "primaries", primaries)
    aim = await ZONE_LOSS.aim(house, "zone")

    assert (aim.node, aim.facts["primaries"]) == ("zone-2", ["dog-2"])


async def test_an_aim_at_a_zone_that_is_not_whole_is_refused_and_nothing_is_changed(house):
    """Its loss would prove nothing."""
    house.healing["dog-1"] = False
    await house.kill("dog-1")

    with pytest.raises(CouldNotRun, match=r"zone-1 is not whole before it is lost.*dog-1 \(dead"):
        await ZONE_LOSS.aim(house, "zone-1")


async def test_a_lab_without_zones_refuses_and_names_the_one_that_has_them(house):
    """And an unknown zone is answered with those that are there."""
    with pytest.raises(WrongInput, match="'zone-7'; zones of this lab: zone-1, zone-2"):
        await ZONE_LOSS.aim(house, "zone-7")
    house.nodes = blueprint.load("small").nodes
    with pytest.raises(WrongInput, match=r"has none; take it down.*tweetlab up cluster"):
        await ZONE_LOSS.aim(house, "zone-1")


async def test_the_sweep_of_a_dead_runner_heals_whom_it_left_dead_and_asks_for_no_stranger(house):
    """The aim is plain JSON in the undo log; since then another lab may have come up here, without some of its nodes."""
    aim = await ZONE_LOSS.aim(house, "zone-1")
    await ZONE_LOSS.inject(house, aim)
    aim.facts["nodes"].append({"name": "cow-1", "pid": 1, "start_ticks": 1})

    await ZONE_LOSS.undo(house, aim)

    assert {row.name for row in await house.status() if row.state == "dead"} == set()
    assert not any("cow" in step for step in house.order)


def test_the_replicas_that_a_redis_primary_names_are_read():
    """A fixture of INFO's own shape."""
    info = {"role": "master", "slave0": "ip=127.1.30.2,port=6379,state=online,offset=12,lag=1", "slave_repl_offset": "3"}

    assert [(each["ip"], each["offset"], each["lag"]) for each in copies.redis_replicas(info)] == [("127.1.30.2", "12", "1")]


def test_a_partition_counts_as_short_where_a_replica_is_not_in_sync():
    """What Kafka calls under-replicated."""
    parts = [{"replicas": [1, 2, 3], "isr": [1, 2, 3]}, {"replicas": [1, 2, 3], "isr": [2, 3]}]

    assert copies.short_of(parts) == 1


async def test_a_lab_of_single_stores_lacks_no_copies():
    """Nobody is asked where there is one of a kind."""
    assert await copies.missing([types.SimpleNamespace(kind=kind, address="127.0.0.1:1") for kind in ("redis", "kafka")]) == []


@pytest.mark.parametrize(("status", "found"), [("200 OK", []), ("412 Precondition Failed", ["MinIO has drives offline"])])
async def test_a_storage_that_could_not_spare_a_node_lacks_copies(status, found):
    """Its own answer to: would you write on if this node went away?"""
    asked = []

    async def answer(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1])
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        told = await copies.missing([types.SimpleNamespace(kind="minio", address=here)] * 3)

    assert [each[:24] for each in told] == found and asked == ["/minio/health/cluster?maintenance=true"]
