"""Faults of the WAN links between regions: an isolated region, and links that are slow or lose packets.

The lab's WAN emulator (`system/platform/regions/wan_emulator.py`) applies them. The emulator keeps a fault
across its own restarts; only undo ends it.
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
from system.platform.servers import wan as wan_node

LINES = "lines"
TRY_S = 1.5      # timeout of a connect; one retransmission fits: a lost SYN is sent again after 1 s
ON_TIME = 0.995  # share of the requested delay that must be measured; the two processes have different clocks
SAMPLES = 3      # connects per link; the fastest counts, since one may wait for a lost SYN


class RegionCut:
    """Cuts a region off from the other regions and from users, while all its processes stay alive.

    The target is `east`, `west` or `witness`, or `region`: the active one, where the cache's primary
    currently runs. After the links are restored, that region still considers itself the leader. Auto-heal of
    all nodes of the region is switched off first, since they look unhealthy from outside and would be
    restarted.

    - Effect: all its processes are alive, and no connection into it succeeds, neither from outside nor from
      another region.
    - Undo: the links that the fault cut are restored, and auto-heal is switched on.
    - Recovery: connections succeed again, all nodes of the region are healthy, and the stores have as many
      copies of their data as before (`system.observe.copies`).
    """

    held = True
    kinds: tuple[str, ...] = (zone_faults.REGION.word,)
    recovers_within_s = vocabulary.FAULT_KINDS["region_cut"].recovers_within_s
    probe_every_s = zone_faults.PROBE_EVERY_S

    async def choose_target(self, lab: Lab, name: str) -> Target:
        target = await zone_faults.REGION.choose_target(lab, name)
        region = _region_number(target.node)
        pairs = [[row["from"], row["to"]] for row in await wan_node.ask(lab.paths, {"op": "look"})
                 if region in (row["from"], row["to"]) and not row["cut"]]
        if not pairs:
            raise CouldNotRun(f"{target.node} is cut off already, so the drill would prove nothing; restore its links first.")
        target.facts["pairs"] = pairs
        return target

    async def inject(self, lab: Lab, target: Target) -> dict[str, Any]:
        await zone_faults.disable_auto_heal(lab, target)
        await wan_node.ask(lab.paths, {"op": "set", "pairs": target.facts["pairs"], "line": {"cut": True}})
        return {"lines": len(target.facts["pairs"]), "nodes": len(target.facts["nodes"]), "primaries": target.facts["primaries"]}

    async def has_taken_effect(self, lab: Lab, target: Target) -> bool:
        alive = all(procs.is_alive(node["pid"], node["start_ticks"]) for node in target.facts["nodes"])
        return alive and not any(await _can_connect(lab, target))

    async def undo(self, lab: Lab, target: Target) -> None:
        if await _has_wan(lab):
            await wan_node.ask(lab.paths, {"op": "set", "pairs": target.facts["pairs"], "line": {"cut": False}})
        await zone_faults.enable_auto_heal(lab, target)

    async def has_recovered(self, lab: Lab, target: Target) -> bool:
        if not all(await _can_connect(lab, target)):
            return False
        rows = await lab.status()
        return zone_faults.all_healthy(target, rows) and not await copies.missing(rows)


class WanSlow:
    """Makes the WAN links between regions slow (`delay`, one way) or lossy (`loss`, share of the packets).

    The links to users are not affected. The target is `lines` for all links, or `east`, `west` or `witness`
    for those of one region. A parameter that is left out keeps its current value.

    - Effect: a TCP connect over each link takes as long as requested; where only `loss` is set, the emulator
      counts lost packets.
    - Undo: the links return to their state at the start of the lab.
    - Recovery: TCP connects are as fast as before.
    """

    held = True
    kinds: tuple[str, ...] = (LINES, zone_faults.REGION.word)
    recovers_within_s = vocabulary.FAULT_KINDS["wan_slow"].recovers_within_s
    probe_every_s = 1.0

    async def choose_target(self, lab: Lab, name: str) -> Target:
        regions = zone_faults.REGION.named(await lab.blueprint())
        if name not in (LINES, *regions):
            raise WrongInput(f"The fault's target is {name!r}; targets in this lab: {LINES} for all links, "
                             f"or {', '.join(regions)}.")
        rows = {row.name: row for row in await lab.status()}
        endpoints = {str(_region_number(region)): rows[nodes[0].name].address for region, nodes in regions.items()
                     if nodes[0].name in rows}
        links = [row for row in await wan_node.ask(lab.paths, {"op": "look"})
                 if wan.OUTSIDE not in (row["from"], row["to"])
                 and (name == LINES or _region_number(name) in (row["from"], row["to"]))]
        facts = {"pairs": [[row["from"], row["to"]] for row in links], "doors": endpoints,
                 "before_s": max(row["delay_s"] for row in links), "lost": _packets_lost(links)}
        return Target(name, 0, 0, "", facts)

    async def inject(self, lab: Lab, target: Target) -> dict[str, Any]:
        if target.strength.get("delay_s", wan.MAX_DELAY_S) < target.facts["before_s"]:
            raise CouldNotRun(f"The links already take {target.facts['before_s'] * 1e3:g} ms, more than the "
                              f"{target.strength['delay_s'] * 1e3:g} ms of the fault; give it a longer `delay`.")
        await wan_node.ask(lab.paths, {"op": "set", "pairs": target.facts["pairs"], "line": target.strength})
        return {"lines": len(target.facts["pairs"]), "asked": target.strength, "before_s": target.facts["before_s"]}

    async def has_taken_effect(self, lab: Lab, target: Target) -> bool:
        round_trips = await _round_trips(lab, target)
        if None in round_trips:
            return False
        slow = all((time_s or 0.0) >= 2 * target.strength.get("delay_s", 0.0) * ON_TIME for time_s in round_trips)
        if not slow or "delay_s" in target.strength or "loss" not in target.strength:
            return slow
        return bool(_packets_lost(await _links(lab, target)) > target.facts["lost"])

    async def undo(self, lab: Lab, target: Target) -> None:
        if await _has_wan(lab):
            await wan_node.ask(lab.paths, {"op": "calm", "pairs": target.facts["pairs"]})

    async def has_recovered(self, lab: Lab, target: Target) -> bool:
        if any(row["delay_s"] > target.facts["before_s"] or row["loss"] for row in await _links(lab, target)):
            return False
        # Halfway between the round trip before the fault and the one during it.
        between_s = target.facts["before_s"] + target.strength.get("delay_s", wan.MAX_DELAY_S)
        return all(time_s is not None and time_s < between_s for time_s in await _round_trips(lab, target))


def _region_number(region: str) -> int:
    return next(number for number, name in wan.NAMES.items() if name == region)


def _packets_lost(rows: Iterable[dict[str, Any]]) -> int:
    return sum(row["lost"] for row in rows)


async def _links(lab: Lab, target: Target) -> list[dict[str, Any]]:
    rows = await wan_node.ask(lab.paths, {"op": "look"})
    return [row for row in rows if [row["from"], row["to"]] in target.facts["pairs"]]


async def _has_wan(lab: Lab) -> bool:
    """Return whether the running lab has WAN links; after a runner died, it may be a different lab."""
    return (await lab.blueprint()).in_regions


async def _can_connect(lab: Lab, target: Target) -> list[bool]:
    """Return whether a connect into the region succeeds: from outside first, then from each other region."""
    sources = [wan.OUTSIDE, *(number for number in wan.NAMES if number not in (wan.OUTSIDE, _region_number(target.node)))]
    times = await asyncio.gather(*(connect_s(lab.paths, number, target.address, samples=1) for number in sources))
    return [time_s is not None for time_s in times]


async def _round_trips(lab: Lab, target: Target) -> list[float | None]:
    """Return the seconds of the fastest connect over each link of the target; None where none succeeded."""
    endpoints = target.facts["doors"]
    links = [(source, sink) for source, sink in target.facts["pairs"] if source < sink]
    return await asyncio.gather(*(connect_s(lab.paths, source, endpoints[str(sink)]) for source, sink in links))


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
    """Return the seconds of the fastest of `samples` TCP connects to `address`; None where none succeeded.

    `region`: the region to connect from, or `wan.OUTSIDE`. Raises CouldNotRun where no connect could be tried
    there.
    """
    host, _, port = address.rpartition(":")
    command = [*network.inside(at, region), sys.executable, "-S", "-E", "-c", CONNECT, host, port, str(samples), str(TRY_S)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                                                   stderr=asyncio.subprocess.PIPE)
    output, errors = await process.communicate()
    if process.returncode:
        end = errors.decode(errors="replace").strip()[-300:]
        raise CouldNotRun(f"No connection could be tried from {wan.NAMES[region]}: {end}")
    return min((float(line) for line in output.split()), default=None)
