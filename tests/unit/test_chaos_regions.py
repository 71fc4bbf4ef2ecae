"""region_loss, region_cut and wan_slow, on sleeping processes and a WAN emulator inside this process."""

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
    """Four sleeping processes in two regions, one in the witness, and the links between the regions."""

    def __init__(self, root):
        super().__init__()
        self.nodes, self.paths = NODES, Paths(root, 21)
        self.healing["cow-3"], self.sleepers["cow-3"] = True, self.sleeper()
        self.root = root

    async def ask(self, at, request):
        """Answer as the WAN emulator does; each request reads the state of the links from disk."""
        if request["op"] != "look":
            self.order.append((request["op"], request.get("line")))
        return wan_emulator.answer(wan_emulator.WanEmulator(Plan(21), {}, self.root / "lines.json", 0.010), request)

    async def connect(self, at, region, address, samples=3):
        """Return a round trip in seconds; None over a cut link."""
        there = next(number for number, endpoint in self.endpoints.items() if endpoint == address)
        links = {(row["from"], row["to"]): row for row in await self.ask(at, {"op": "look"})}
        out, back = links[region, there], links[there, region]
        return None if out["cut"] or back["cut"] else out["delay_s"] + back["delay_s"] + 0.0002

    endpoints = {1: "10.21.100.1:8000", 2: "10.22.100.2:8000", 3: "10.23.100.3:8000"}

    def row(self, name, pid):
        return dataclasses.replace(super().row(name, pid), address=self.endpoints[int(name[-1])])

    async def cuts(self):
        return sorted((row["from"], row["to"]) for row in await self.ask(None, {"op": "look"}) if row["cut"])


@pytest.fixture
def lab(tmp_path, monkeypatch):
    made = Regions(tmp_path)
    monkeypatch.setattr(wan_faults.wan_node, "ask", made.ask)
    monkeypatch.setattr(wan_faults, "connect_s", made.connect)
    yield made
    for child in made.sleepers.values():
        child.kill()
        child.wait()


WEST = sorted([(2, other) for other in (1, 3, 4)] + [(other, 2) for other in (1, 3, 4)])


async def test_every_node_of_a_region_dies_and_restarts_in_new_processes(lab):
    """As in zone_loss; the WAN links are not touched."""
    target = await LOSS.choose_target(lab, "west")
    others = [lab.sleepers[name].pid for name in ("cat-1", "dog-1")]

    assert await LOSS.inject(lab, target) == {"killed": 2, "nodes": 2, "primaries": []}
    assert await LOSS.has_taken_effect(lab, target) and not await LOSS.has_recovered(lab, target)
    await LOSS.undo(lab, target)

    assert await LOSS.has_recovered(lab, target)
    assert [lab.sleepers[name].pid for name in ("cat-1", "dog-1")] == others
    assert await lab.cuts() == []


@pytest.mark.parametrize("fault", [LOSS, CUT])
async def test_the_active_region_is_the_region_of_the_caches_primary(lab, monkeypatch, fault):
    """The current one; the record lists the primaries in it."""
    async def primaries(rows):
        return ["dog-2", "cat-1"]

    monkeypatch.setattr(copies, "primaries", primaries)
    target = await fault.choose_target(lab, "region")

    assert (target.node, target.facts["primaries"]) == ("west", ["dog-2"])


async def test_a_region_that_is_cut_off_stays_alive_and_is_unreachable(lab):
    """Every link is cut in both directions, also to users; auto-heal of its nodes is off during the fault."""
    target = await CUT.choose_target(lab, "west")
    before = {name: child.pid for name, child in lab.sleepers.items()}
    assert not await CUT.has_taken_effect(lab, target)

    assert await CUT.inject(lab, target) == {"lines": 6, "nodes": 2, "primaries": []}
    during = (await lab.cuts(), await CUT.has_taken_effect(lab, target), await CUT.has_recovered(lab, target),
              dict(lab.healing))
    await CUT.undo(lab, target)
    await CUT.undo(lab, target)

    assert during == (WEST, True, False, {name: name[-1] != "2" for name in before})
    assert lab.order[:3] == ["heal cat-2 False", "heal dog-2 False", ("set", {"cut": True})]
    assert lab.order[3:6] == [("set", {"cut": False}), "heal cat-2 True", "heal dog-2 True"]
    assert (await lab.cuts(), await CUT.has_recovered(lab, target)) == ([], True)
    assert {name: child.pid for name, child in lab.sleepers.items()} == before


async def test_a_cut_in_which_a_process_died_proves_nothing(lab):
    """It would be partly a loss of the region."""
    target = await CUT.choose_target(lab, "west")
    await CUT.inject(lab, target)
    await lab.kill("cat-2")

    assert not await CUT.has_taken_effect(lab, target)


async def test_a_reconnected_region_has_not_recovered_before_its_stores_have_all_copies_again(lab, monkeypatch):
    """The writes of the other side must be replicated to it first."""
    target = await CUT.choose_target(lab, "east")
    answers = iter([["Elasticsearch is yellow"], []])

    async def missing(rows):
        return next(answers)

    monkeypatch.setattr(copies, "missing", missing)

    assert [await CUT.has_recovered(lab, target), await CUT.has_recovered(lab, target)] == [False, True]


async def test_only_the_links_that_the_fault_cut_are_restored(lab):
    """A link that was cut by hand before stays cut; a region with all links cut is no valid target."""
    await lab.ask(None, {"op": "set", "pairs": [[2, 3]], "line": {"cut": True}})
    target = await CUT.choose_target(lab, "west")
    await CUT.inject(lab, target)
    with pytest.raises(CouldNotRun, match="west is cut off already"):
        await CUT.choose_target(lab, "west")
    await CUT.undo(lab, target)

    assert await lab.cuts() == [(2, 3)]


@pytest.mark.parametrize("fault", [CUT, SLOW])
async def test_the_undo_is_safe_where_the_running_lab_has_no_regions(lab, fault):
    """After a runner died, the next lab has no WAN emulator and other nodes."""
    target = await fault.choose_target(lab, "west")
    lab.nodes, lab.order = blueprint.load("small").nodes, []
    lab.sleepers = {f"other-{name}": child for name, child in lab.sleepers.items()}
    lab.healing = dict.fromkeys(lab.sleepers, True)

    await fault.undo(lab, target)

    assert lab.order == []


async def test_a_cut_is_logged_before_it_is_injected_and_a_stopped_run_undoes_it(lab, tmp_path):
    """The undo log holds what the watchdog or the next run needs."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, stop.set)
    [record] = await schedule.run([spec.Fault(0.0, "region_cut", "west", for_s=60.0)], lab, time.monotonic_ns(), tmp_path,
                                  stop=stop, table={"region_cut": Planned(tmp_path)})

    assert (record.void, record.target, record.undone_ns is not None) == ("", "west", True)
    assert sorted(record.facts["planned"]) == WEST
    assert await lab.cuts() == [] and all(lab.healing.values())


class Planned(type(CUT)):
    """Adds the links that the undo log names when the injection starts."""

    def __init__(self, state):
        self.log = undo.UndoLog(undo.path_of(state))

    async def inject(self, lab, target):
        planned = [tuple(pair) for entry in self.log.pending() for pair in entry.target.facts["pairs"]]
        return await super().inject(lab, target) | {"planned": planned}


async def test_an_unknown_region_is_refused_by_name(lab):
    """The message names the known regions, or a blueprint that has regions."""
    with pytest.raises(WrongInput, match="'mars'; regions of this lab: east, west, witness"):
        await CUT.choose_target(lab, "mars")
    with pytest.raises(WrongInput, match="'mars'; targets in this lab: lines for all links, or east, west, witness"):
        await SLOW.choose_target(lab, "mars")
    lab.nodes = blueprint.load("cluster").nodes
    for fault in (LOSS, CUT, SLOW):
        with pytest.raises(WrongInput, match=r"has none; take it down.*tweetlab up two_regions"):
            await fault.choose_target(lab, "west")


def slowed(target, **strength):
    return dataclasses.replace(target, strength=strength)


async def test_slow_links_are_measured_and_restored(lab):
    """Only links between regions are slow; those to users are unchanged."""
    target = slowed(await SLOW.choose_target(lab, "lines"), delay_s=0.08, loss=0.01)
    assert not await SLOW.has_taken_effect(lab, target)

    await SLOW.inject(lab, target)
    rows = await lab.ask(None, {"op": "look"})
    during = await SLOW.has_taken_effect(lab, target), await SLOW.has_recovered(lab, target)
    await SLOW.undo(lab, target)
    await SLOW.undo(lab, target)

    assert {(row["delay_s"], row["loss"]) for row in rows if wan.OUTSIDE not in (row["from"], row["to"])} == {(0.08, 0.01)}
    assert {(row["delay_s"], row["loss"]) for row in rows if wan.OUTSIDE in (row["from"], row["to"])} == {(0.0, 0.0)}
    assert (during, await SLOW.has_recovered(lab, target)) == ((True, False), True)
    assert {row["delay_s"] for row in await lab.ask(None, {"op": "look"})} == {0.0, 0.01}


async def test_the_links_of_one_region_can_be_slow(lab):
    """The links between the other regions are unchanged."""
    target = slowed(await SLOW.choose_target(lab, "west"), loss=0.1)
    await SLOW.inject(lab, target)

    rows = await lab.ask(None, {"op": "look"})

    assert {(row["from"], row["to"]) for row in rows if row["loss"]} == {pair for pair in WEST if wan.OUTSIDE not in pair}
    assert not await SLOW.has_taken_effect(lab, target)  # no packet was lost so far


async def test_links_that_are_slower_already_are_not_made_faster(lab):
    """The fault would improve the network."""
    target = slowed(await SLOW.choose_target(lab, "lines"), delay_s=0.005)
    with pytest.raises(CouldNotRun, match="already take 10 ms, more than the 5 ms"):
        await SLOW.inject(lab, target)


async def test_the_undo_of_slow_links_leaves_a_cut_in_place(lab):
    """The end of one fault is not the end of another."""
    target = slowed(await SLOW.choose_target(lab, "lines"), delay_s=0.08)
    cut = await CUT.choose_target(lab, "west")
    await SLOW.inject(lab, target)
    await CUT.inject(lab, cut)
    await SLOW.undo(lab, target)

    assert await lab.cuts() == WEST


async def test_a_connect_opens_a_real_tcp_connection(tmp_path):
    """From outside, without a namespace: to an open port, then to a closed one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        took_s = await wan_faults.connect_s(Paths(tmp_path, 21), wan.OUTSIDE, address)

    assert 0 < took_s < 1
    assert await wan_faults.connect_s(Paths(tmp_path, 21), wan.OUTSIDE, address, samples=1) is None


async def test_a_region_without_a_namespace_is_an_error_and_not_a_cut(tmp_path):
    """A probe that cannot run proves nothing."""
    with pytest.raises(CouldNotRun, match="could be tried from east"):
        await wan_faults.connect_s(Paths(Path(tmp_path), 21), 1, "127.0.0.1:1")
