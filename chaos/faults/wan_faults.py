"""Faults of the lines between regions: one that is cut off with everything in it alive, and lines that are slow or lose packets.

They are asked of the lab's carrier (`system/platform/regions/wan_emulator.py`), which keeps them over its own death;
only undo ends them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from typing import Any

from chaos.faults import zone_faults
from chaos.faults.targets import Lab, Target
from scenarios import vocabulary
from system.kernel import wan
from system.kernel.errors import CouldNotRun, WrongInput
from system.observe import copies
from system.platform.paths import Paths
from system.platform.process import procs
from system.platform.regions import network
from system.platform.servers import wan as carrier

LINES = "lines"
TRY_S = 1.5      # of a connect: a lost SYN is sent again after 1 s
ON_TIME = 0.995  # of the time that was asked for: the carrier's clock and ours tick apart
SAMPLES = 3      # connects a line; a round trip that waited for a lost SYN is no measure of it


class RegionCut:
    """Nothing goes between a region and any other place, users included, while all its processes live on: a partition.

    Auto-heal of all its nodes is switched off first: nobody outside sees them well, and none is to be replaced for that. Bites:
    all its processes live, and no connection is made into it, neither from outside nor from another region. Undo: the lines
    are joined as they were, and auto-heal is switched on. Recovery: connections are made again, all nodes of the region are
    well, and the stores have as many copies of their data as before (`copies`). The target is `east`, `west` or `witness`;
    `region` is the active one, where the cache's primary stands now: it wakes up believing that it leads.
    """

    held = True
    kinds: tuple[str, ...] = (zone_faults.REGION.word,)
    recovers_within_s = vocabulary.FAULT_KINDS["region_cut"].recovers_within_s
    look_every_s = zone_faults.LOOK_EVERY_S

    async def aim(self, lab: Lab, target: str) -> Target:
        aim = await zone_faults.REGION.aim(lab, target)
        region = _number(aim.node)
        pairs = [[row["from"], row["to"]] for row in await carrier.ask(lab.paths, {"op": "look"})
                 if region in (row["from"], row["to"]) and not row["cut"]]
        if not pairs:
            raise CouldNotRun(f"{aim.node} is cut off already, so the drill would prove nothing; join it first.")
        aim.facts["pairs"] = pairs
        return aim

    async def inject(self, lab: Lab, aim: Target) -> dict[str, Any]:
        await zone_faults.leave_alone(lab, aim)
        await carrier.ask(lab.paths, {"op": "set", "pairs": aim.facts["pairs"], "line": {"cut": True}})
        return {"lines": len(aim.facts["pairs"]), "nodes": len(aim.facts["nodes"]), "primaries": aim.facts["primaries"]}

    async def bites(self, lab: Lab, aim: Target) -> bool:
        alive = all(procs.is_alive(node["pid"], node["start_ticks"]) for node in aim.facts["nodes"])
        return alive and not any(await _connects(lab, aim))

    async def undo(self, lab: Lab, aim: Target) -> None:
        if await _has_lines(lab):
            await carrier.ask(lab.paths, {"op": "set", "pairs": aim.facts["pairs"], "line": {"cut": False}})
        await zone_faults.heal(lab, aim)

    async def gone(self, lab: Lab, aim: Target) -> bool:
        if not all(await _connects(lab, aim)):
            return False
        rows = await lab.status()
        return zone_faults.all_healthy(aim, rows) and not await copies.missing(rows)


class WanSlow:
    """The lines between regions take `delay` one way and lose the share `loss` of the packets; users are as near as before.

    The target `lines` is all of them; `east`, `west` or `witness` those of one region. What is left out stays as it is. Bites: a
    connection from one end of each line to the other takes as long as was asked for, or the line tells that it has lost
    packets where only a loss was. Undo: the lines are calm, as at the start of the lab. Recovery: connections are as quick again.
    """

    held = True
    kinds: tuple[str, ...] = (LINES, zone_faults.REGION.word)
    recovers_within_s = vocabulary.FAULT_KINDS["wan_slow"].recovers_within_s
    look_every_s = 1.0

    async def aim(self, lab: Lab, target: str) -> Target:
        named = zone_faults.REGION.named(await lab.blueprint())
        if target not in (LINES, *named):
            raise WrongInput(f"The fault's target is {target!r}; lines of this lab: {LINES} for all, or {', '.join(named)}.")
        rows = {row.name: row for row in await lab.status()}
        doors = {str(_number(name)): rows[nodes[0].name].address for name, nodes in named.items() if nodes[0].name in rows}
        wanted = [row for row in await carrier.ask(lab.paths, {"op": "look"})
                  if wan.OUTSIDE not in (row["from"], row["to"])
                  and (target == LINES or _number(target) in (row["from"], row["to"]))]
        facts = {"pairs": [[row["from"], row["to"]] for row in wanted], "doors": doors,
                 "before_s": max(row["delay_s"] for row in wanted), "lost": _lost(wanted)}
        return Target(target, 0, 0, "", facts)

    async def inject(self, lab: Lab, aim: Target) -> dict[str, Any]:
        if aim.asked.get("delay_s", wan.MAX_DELAY_S) < aim.facts["before_s"]:
            raise CouldNotRun(f"The lines take {aim.facts['before_s'] * 1e3:g} ms already, more than the "
                              f"{aim.asked['delay_s'] * 1e3:g} ms that the fault asks for; ask for more.")
        await carrier.ask(lab.paths, {"op": "set", "pairs": aim.facts["pairs"], "line": aim.asked})
        return {"lines": len(aim.facts["pairs"]), "asked": aim.asked, "before_s": aim.facts["before_s"]}

    async def bites(self, lab: Lab, aim: Target) -> bool:
        took = await _round_trips(lab, aim)
        if None in took:
            return False
        slow = all((each or 0.0) >= 2 * aim.asked.get("delay_s", 0.0) * ON_TIME for each in took)
        return slow and ("loss" not in aim.asked or "delay_s" in aim.asked or _lost(await _rows(lab, aim)) > aim.facts["lost"])

    async def undo(self, lab: Lab, aim: Target) -> None:
        if await _has_lines(lab):
            await carrier.ask(lab.paths, {"op": "calm", "pairs": aim.facts["pairs"]})

    async def gone(self, lab: Lab, aim: Target) -> bool:
        if any(row["delay_s"] > aim.facts["before_s"] or row["loss"] for row in await _rows(lab, aim)):
            return False
        between_s = aim.facts["before_s"] + aim.asked.get("delay_s", wan.MAX_DELAY_S)  # of both round trips, calm and slow
        return all(each is not None and each < between_s for each in await _round_trips(lab, aim))


def _number(region: str) -> int:
    return next(number for number, name in wan.NAMES.items() if name == region)


def _lost(rows: Iterable[dict[str, Any]]) -> int:
    return sum(row["lost"] for row in rows)


async def _rows(lab: Lab, aim: Target) -> list[dict[str, Any]]:
    return [row for row in await carrier.ask(lab.paths, {"op": "look"}) if [row["from"], row["to"]] in aim.facts["pairs"]]


async def _has_lines(lab: Lab) -> bool:
    """Say whether the lab that stands here now has any: another may have come up since the runner died."""
    return (await lab.blueprint()).in_regions


async def _connects(lab: Lab, aim: Target) -> list[bool]:
    """Say of every place but the region itself, outside first, whether a connection into the region is made from there."""
    paths = [wan.OUTSIDE, *(number for number in wan.NAMES if number not in (wan.OUTSIDE, _number(aim.node)))]
    told = await asyncio.gather(*(connect_s(lab.paths, number, aim.address, samples=1) for number in paths))
    return [each is not None for each in told]


async def _round_trips(lab: Lab, aim: Target) -> list[float | None]:
    """Return the seconds of the quickest connection over each line of the fault; None where there was none."""
    doors = aim.facts["doors"]
    ends = [(one, other) for one, other in aim.facts["pairs"] if one < other]
    return await asyncio.gather(*(connect_s(lab.paths, one, doors[str(other)]) for one, other in ends))


CONNECT = """
import socket, sys, time
host, port, tries, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
for _ in range(tries):
    began = time.monotonic()
    try:
        socket.create_connection((host, port), limit).close()
        print(time.monotonic() - began)
    except OSError:
        pass
"""


async def connect_s(at: Paths, region: int, address: str, samples: int = SAMPLES) -> float | None:
    """Return the seconds that the quickest of some connects took, made inside a region or outside; None where none was made."""
    host, _, port = address.rpartition(":")
    command = [*network.inside(at, region), sys.executable, "-S", "-E", "-c", CONNECT, host, port, str(samples), str(TRY_S)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                                                   stderr=asyncio.subprocess.PIPE)
    told, trouble = await process.communicate()
    if process.returncode:
        end = trouble.decode(errors="replace").strip()[-300:]
        raise CouldNotRun(f"No connection could be tried from {wan.NAMES[region]}: {end}")
    return min((float(line) for line in told.split()), default=None)
