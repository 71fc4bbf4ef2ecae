"""The loss and the isolation of a region, and slow lines, on processes that sleep and a carrier of this process."""

import asyncio
import dataclasses
import socket
import time
from pathlib import Path

import pytest

from chaos import schedule, undo
from chaos.faults import wan_faults
from chaos.faults.table import FAULTS
from scenarios import spec
from system.kernel import wan
from system.kernel.errors import CouldNotRun, WrongInput
from system.observe import copies
from system.platform import blueprint
from system.platform.addresses import Plan
from system.platform.blueprint import Node
from system.platform.paths import Paths
from system.platform.regions import wan_emulator
from tests.helpers.sleepers import SleeperLab

LOSS, CUT, SLOW = FAULTS["region_loss"], FAULTS["region_cut"], FAULTS["wan_slow"]
NODES = (Node("wan-1", "wan", "network"),
         *(Node(f"{kind}-{region}", kind, "service", region, region, region) for region in (1, 2) for kind in ("cat", "dog")),
         Node("cow-3", "cow", "service", 3, 3, 3))


class Regions(SleeperLab):
    """Four sleepers in two regions, one in the witness, and the lines between them."""

    def __init__(self, root):
        super().__init__()
        self.nodes, self.paths = NODES, Paths(root, 21)
        self.healing["cow-3"], self.sleepers["cow-3"] = True, self.sleeper()
        self.root = root

    async def ask(self, at, request):
        """As the carrier would; each question sees how the lines stand on disk."""
        if request["op"] != "look":
            self.order.append((request["op"], request.get("line")))
        return wan_emulator.answer(wan_emulator.WanEmulator(Plan(21), {}, self.root / "lines.json", 0.010), request)

    async def connect(self, at, region, address, samples=3):
        """A connection takes a round trip; a cut line makes none."""
        there = next(number for number, door in self.doors.items() if door == address)
        ways = {(row["from"], row["to"]): row for row in await self.ask(at, {"op": "look"})}
        out, back = ways[region, there], ways[there, region]
        return None if out["cut"] or back["cut"] else out["delay_s"] + back["delay_s"] + 0.0002

    doors = {1: "10.21.100.1:8000", 2: "10.22.100.2:8000", 3: "10.23.100.3:8000"}

    def row(self, name, pid):
        return dataclasses.replace(super().row(name, pid), address=self.doors[int(name[-1])])

    async def cuts(self):
        return sorted((row["from"], row["to"]) for row in await self.ask(None, {"op": "look"}) if row["cut"])


@pytest.fixture
def house(tmp_path, monkeypatch):
    made = Regions(tmp_path)
    monkeypatch.setattr(wan_faults.carrier, "ask", made.ask)
    monkeypatch.setattr(wan_faults, "connect_s", made.connect)
    yield made
    for child in made.sleepers.values():
        child.kill()
        child.wait()


WEST = sorted([(2, other) for other in (1, 3, 4)] + [(other, 2) for other in (1, 3, 4)])


async def test_a_whole_region_dies_and_comes_back_in_new_processes(house):
    """As a zone does; its lines are not touched."""
    aim = await LOSS.aim(house, "west")
    others = [house.sleepers[name].pid for name in ("cat-1", "dog-1")]

    assert await LOSS.inject(house, aim) == {"killed": 2, "nodes": 2, "primaries": []}
    assert await LOSS.bites(house, aim) and not await LOSS.gone(house, aim)
    await LOSS.undo(house, aim)

    assert await LOSS.gone(house, aim)
    assert [house.sleepers[name].pid for name in ("cat-1", "dog-1")] == others
    assert await house.cuts() == []


@pytest.mark.parametrize("fault", [LOSS, CUT])
async def test_the_active_region_is_the_one_of_the_caches_primary(house, monkeypatch, fault):
    """Whichever that is now; the record keeps which primaries were struck."""
    async def primaries(rows):
        return ["dog-2", "cat-1"]

    monkeypatch.setattr(copies, "primaries", primaries)
    aim = await fault.aim(house, "region")

    assert (aim.node, aim.facts["primaries"]) == ("west", ["dog-2"])


async def test_a_region_that_is_cut_off_lives_on_and_nobody_reaches_it(house):
    """Every line of it in both directions, the users' too; nothing of it may be healed or replaced meanwhile."""
    aim = await CUT.aim(house, "west")
    before = {name: child.pid for name, child in house.sleepers.items()}
    assert not await CUT.bites(house, aim)

    assert await CUT.inject(house, aim) == {"lines": 6, "nodes": 2, "primaries": []}
    held = (await house.cuts(), await CUT.bites(house, aim), await CUT.gone(house, aim), dict(house.healing))
    await CUT.undo(house, aim)
    await CUT.undo(house, aim)

    assert held == (WEST, True, False, {name: name[-1] != "2" for name in before})
    assert house.order[:3] == ["heal cat-2 False", "heal dog-2 False", ("set", {"cut": True})]
    assert house.order[3:6] == [("set", {"cut": False}), "heal cat-2 True", "heal dog-2 True"]
    assert (await house.cuts(), await CUT.gone(house, aim)) == ([], True)
    assert {name: child.pid for name, child in house.sleepers.items()} == before


async def test_a_cut_in_which_a_process_died_proves_nothing(house):
    """It would be half a loss."""
    aim = await CUT.aim(house, "west")
    await CUT.inject(house, aim)
    await house.kill("cat-2")

    assert not await CUT.bites(house, aim)


async def test_a_joined_region_is_not_back_before_its_stores_have_all_copies_again(house, monkeypatch):
    """What the other side wrote has to reach it first."""
    aim = await CUT.aim(house, "east")
    answers = iter([["Elasticsearch is yellow"], []])

    async def missing(rows):
        return next(answers)

    monkeypatch.setattr(copies, "missing", missing)

    assert [await CUT.gone(house, aim), await CUT.gone(house, aim)] == [False, True]


async def test_only_the_lines_that_the_fault_cut_are_joined(house):
    """One that somebody cut by hand before stays cut; a region without a whole line left is no target."""
    await house.ask(None, {"op": "set", "pairs": [[2, 3]], "line": {"cut": True}})
    aim = await CUT.aim(house, "west")
    await CUT.inject(house, aim)
    with pytest.raises(CouldNotRun, match="west is cut off already"):
        await CUT.aim(house, "west")
    await CUT.undo(house, aim)

    assert await house.cuts() == [(2, 3)]


@pytest.mark.parametrize("fault", [CUT, SLOW])
async def test_the_undo_is_safe_where_a_lab_without_regions_stands_since(house, fault):
    """A runner died, and the lab after it has no carrier to ask and other nodes."""
    aim = await fault.aim(house, "west")
    house.nodes, house.order = blueprint.load("small").nodes, []
    house.sleepers = {f"other-{name}": child for name, child in house.sleepers.items()}
    house.healing = dict.fromkeys(house.sleepers, True)

    await fault.undo(house, aim)

    assert house.order == []


async def test_a_cut_is_on_disk_before_it_is_made_and_a_stopped_run_joins_it(house, tmp_path):
    """What the watchdog and the next run would need stands in the undo log."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, stop.set)
    [record] = await schedule.run([spec.Fault(0.0, "region_cut", "west", for_s=60.0)], house, time.monotonic_ns(), tmp_path,
                                  stop=stop, table={"region_cut": Planned(tmp_path)})

    assert (record.void, record.target, record.undone_ns is not None) == ("", "west", True)
    assert sorted(record.facts["planned"]) == WEST
    assert await house.cuts() == [] and all(house.healing.values())


class Planned(type(CUT)):
    """Tells which lines the undo log names when the injection begins."""

    def __init__(self, state):
        self.log = undo.UndoLog(undo.path_of(state))

    async def inject(self, lab, aim):
        planned = [tuple(pair) for entry in self.log.standing() for pair in entry.aim.facts["pairs"]]
        return await super().inject(lab, aim) | {"planned": planned}


async def test_a_region_is_refused_by_name_where_there_is_none(house):
    """Known regions are told, and the lab that has some."""
    with pytest.raises(WrongInput, match="'mars'; regions of this lab: east, west, witness"):
        await CUT.aim(house, "mars")
    with pytest.raises(WrongInput, match="'mars'; lines of this lab: lines for all, or east, west, witness"):
        await SLOW.aim(house, "mars")
    house.nodes = blueprint.load("cluster").nodes
    for fault in (LOSS, CUT, SLOW):
        with pytest.raises(WrongInput, match=r"has none; take it down.*tweetlab up two_regions"):
            await fault.aim(house, "west")


def slowed(aim, **asked):
    return dataclasses.replace(aim, asked=asked)


async def test_slow_lines_are_measured_and_calm_again(house):
    """Between regions alone; the way to the users stays as short as it was."""
    aim = slowed(await SLOW.aim(house, "lines"), delay_s=0.08, loss=0.01)
    assert not await SLOW.bites(house, aim)

    await SLOW.inject(house, aim)
    rows = await house.ask(None, {"op": "look"})
    held = await SLOW.bites(house, aim), await SLOW.gone(house, aim)
    await SLOW.undo(house, aim)
    await SLOW.undo(house, aim)

    assert {(row["delay_s"], row["loss"]) for row in rows if wan.OUTSIDE not in (row["from"], row["to"])} == {(0.08, 0.01)}
    assert {(row["delay_s"], row["loss"]) for row in rows if wan.OUTSIDE in (row["from"], row["to"])} == {(0.0, 0.0)}
    assert (held, await SLOW.gone(house, aim)) == ((True, False), True)
    assert {row["delay_s"] for row in await house.ask(None, {"op": "look"})} == {0.0, 0.01}


async def test_the_lines_of_one_region_can_be_slow(house):
    """Those of the others stay."""
    aim = slowed(await SLOW.aim(house, "west"), loss=0.1)
    await SLOW.inject(house, aim)

    rows = await house.ask(None, {"op": "look"})

    assert {(row["from"], row["to"]) for row in rows if row["loss"]} == {pair for pair in WEST if wan.OUTSIDE not in pair}
    assert not await SLOW.bites(house, aim)  # no packet was lost so far


async def test_lines_that_are_slower_already_are_not_made_quicker(house):
    """A drill in the wrong direction."""
    aim = slowed(await SLOW.aim(house, "lines"), delay_s=0.005)
    with pytest.raises(CouldNotRun, match="take 10 ms already, more than the 5 ms"):
        await SLOW.inject(house, aim)


async def test_calm_lines_stay_cut(house):
    """The end of one fault is not the end of another."""
    aim = slowed(await SLOW.aim(house, "lines"), delay_s=0.08)
    cut = await CUT.aim(house, "west")
    await SLOW.inject(house, aim)
    await CUT.inject(house, cut)
    await SLOW.undo(house, aim)

    assert await house.cuts() == WEST


async def test_a_connection_is_really_tried(tmp_path):
    """From outside, without a namespace: to one who listens, and to nobody."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        took_s = await wan_faults.connect_s(Paths(tmp_path, 21), wan.OUTSIDE, address)

    assert 0 < took_s < 1
    assert await wan_faults.connect_s(Paths(tmp_path, 21), wan.OUTSIDE, address, samples=1) is None


async def test_a_region_that_is_not_there_is_trouble_and_no_cut(tmp_path):
    """A probe that cannot be made proves nothing."""
    with pytest.raises(CouldNotRun, match="could be tried from east"):
        await wan_faults.connect_s(Paths(Path(tmp_path), 21), 1, "127.0.0.1:1")
