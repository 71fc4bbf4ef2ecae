"""The carrier: one process that holds every packet between the regions of a lab.

`python -m system.platform.regions.wan_emulator CONFIG`.

It owns a `tun` device in each region and one outside (`network.py`), reads IP packets, keeps each as long as its line says
(`system/kernel/wan.py`) and writes it at the other end: delay, loss, bandwidth and cuts hold for every protocol alike, and no
address is rewritten. It answers on a Unix socket, a line of JSON each: `{"op": "look"}`, `{"op": "reset"}`,
`{"op": "set", "pairs": [[1, 2]], "line": {...}}`, `{"op": "calm", "pairs": [[1, 2]]}`. How the lines stand is on disk before it
answers: a carrier that was killed comes back with the same cuts; they end with the namespaces (`network.remove`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from system.kernel import wan
from system.kernel.errors import LabError, WrongInput
from system.kernel.telemetry import logs
from system.kernel.wan import Line, Way
from system.platform.addresses import Plan
from system.platform.paths import Paths
from system.platform.regions import network

MAX_PACKET = 65_536
NETWORKS = (10, 127)  # first octets: of the regions, and of their second addresses on loopback
IP_HEADER = 20
BATCH = 64  # packets read from one device before the others get their turn
DEFAULT_DELAY_S = 0.010
"""One way between two regions: 20 ms there and back, as between cities some 1,500 km of fibre apart."""

_log = logging.getLogger("tweetlab")


class WanEmulator:
    """All lines of one lab. `devices`: region -> open tun; `state`: where the lines are kept."""

    def __init__(self, plan: Plan, devices: dict[int, int], state: Path, delay_s: float) -> None:
        self._devices = devices
        self._state = state
        self._calm = {pair: _calm(pair, delay_s) for pair in _pairs()}
        self.ways = {pair: Way(line) for pair, line in (self._calm | _kept(state)).items()}
        self._held: dict[tuple[int, int], deque[tuple[float, bytes]]] = {pair: deque() for pair in self.ways}
        self._below_first = plan.range - 1  # the second octet of region 0, which there is not
        self._chance = random.Random(plan.range)
        self._loop = asyncio.get_running_loop()
        for region, fd in devices.items():
            self._loop.add_reader(fd, self._read, region, fd)

    def _read(self, region: int, fd: int) -> None:
        for _ in range(BATCH):
            try:
                packet = os.read(fd, MAX_PACKET)
            except BlockingIOError:
                return
            pair = pair_of(packet, region, self._below_first)
            if (way := self.ways.get(pair)) is not None:
                self._carry(pair, way, packet)

    def _carry(self, pair: tuple[int, int], way: Way, packet: bytes) -> None:
        now_s = self._loop.time()
        due_s = way.enter(now_s, len(packet), self._chance.random(), self._chance.random())
        if due_s is None:
            return
        held = self._held[pair]
        if due_s <= now_s and not held:
            self._write(pair[1], packet)
            return
        way.waiting += len(packet)
        held.append((due_s, packet))
        if len(held) == 1:
            self._loop.call_at(due_s, self._let_go, pair)

    def _let_go(self, pair: tuple[int, int]) -> None:
        held, way, now_s = self._held[pair], self.ways[pair], self._loop.time()
        while held and held[0][0] <= now_s:
            packet = held.popleft()[1]
            way.waiting -= len(packet)
            if way.line.cut:  # it was on its way when the line was cut
                way.lost += 1
            else:
                self._write(pair[1], packet)
        if held:
            self._loop.call_at(held[0][0], self._let_go, pair)

    def _write(self, region: int, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # a full device drops it, as a router does
            os.write(self._devices[region], packet)

    def set(self, pairs: list[list[int]], line: dict[str, Any]) -> None:
        """Change these directed lines; what `line` does not name stays. Raises WrongInput, and then changes nothing."""
        changed = {}
        for pair in self._known(pairs):
            try:
                changed[pair] = Line(**{**self.ways[pair].line.to_json(), **line})
            except TypeError:
                raise WrongInput(f"A line is told {sorted(line)}; it knows {sorted(Line().to_json())}.") from None
        self._become({pair: way.line for pair, way in self.ways.items()} | changed)

    def calm(self, pairs: list[list[int]]) -> None:
        """Let these directed lines be as at the first start, but for their cuts. Raises WrongInput, and then changes nothing."""
        calm = {pair: replace(self._calm[pair], cut=self.ways[pair].line.cut) for pair in self._known(pairs)}
        self._become({pair: way.line for pair, way in self.ways.items()} | calm)

    def _known(self, pairs: list[list[int]]) -> list[tuple[int, int]]:
        found = []
        for each in pairs:
            pair = (each[0], each[1]) if len(each) == 2 else (0, 0)
            if pair not in self.ways:
                raise WrongInput(f"There is no line between the regions {each}; regions are {wan.NAMES}.")
            found.append(pair)
        return found

    def reset(self) -> None:
        """Let all lines be as at the first start."""
        self._become(self._calm)

    def look(self) -> list[dict[str, Any]]:
        """Return a row for each directed line: what it is, and what it carried and lost."""
        return [{"from": pair[0], "to": pair[1], **way.line.to_json(),
                 "packets": way.packets, "bytes": way.bytes, "lost": way.lost, "waiting": way.waiting}
                for pair, way in self.ways.items()]

    def _become(self, lines: dict[tuple[int, int], Line]) -> None:
        part = self._state.with_suffix(".part")
        part.write_text(json.dumps([[*pair, line.to_json()] for pair, line in lines.items()]))
        part.replace(self._state)
        for pair, line in lines.items():
            self.ways[pair].line = line


def pair_of(packet: bytes, region: int, below_first: int) -> tuple[int, int]:
    """Return the line that a packet from `region` goes over; (0, 0) for what is none of the lab's.

    It must come from an address of that region: where this machine forwards packets for others, theirs come in with their own.
    `below_first`: the second octet before that of the first region.
    """
    if len(packet) < IP_HEADER or packet[0] >> 4 != 4 or packet[12] not in NETWORKS or packet[16] not in NETWORKS:
        return (0, 0)
    return (region, packet[17] - below_first) if packet[13] - below_first == region else (0, 0)


def _pairs() -> list[tuple[int, int]]:
    return [(one, other) for one in wan.NAMES for other in wan.NAMES if one != other]


def _calm(pair: tuple[int, int], delay_s: float) -> Line:
    return Line() if wan.OUTSIDE in pair else Line(delay_s=delay_s)


def _kept(state: Path) -> dict[tuple[int, int], Line]:
    try:
        return {(one, other): Line(**line) for one, other, line in json.loads(state.read_text())}
    except (OSError, ValueError, TypeError):  # none yet, or not whole
        return {}


def answer(carrier: WanEmulator, request: dict[str, Any]) -> Any:
    """Carry out one request. Raises WrongInput."""
    match request.get("op"):
        case "look":
            return carrier.look()
        case "set":
            carrier.set(list(request.get("pairs", [])), dict(request.get("line", {})))
        case "calm":
            carrier.calm(list(request.get("pairs", [])))
        case "reset":
            carrier.reset()
        case other:
            raise WrongInput(f"The operation {other!r} is unknown; known are look, set, calm, reset.")
    return carrier.look()


async def _serve(config: dict[str, Any], devices: dict[int, int], plan: Plan) -> None:
    carrier = WanEmulator(plan, devices, Path(config["state"]), float(config["delay_s"]))

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    told = {"result": answer(carrier, json.loads(line))}
                except (LabError, ValueError, TypeError, OSError) as problem:
                    told = {"error": str(problem)}
                writer.write(json.dumps(told).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    socket = Path(config["socket"])
    socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(talk, socket)
    socket.chmod(0o600)
    async with server:
        await server.serve_forever()


def main(arguments: list[str]) -> int:
    """Make what the regions need, then carry until told to stop."""
    logs.setup("carrier")
    config = json.loads(Path(arguments[0]).read_text())
    paths, plan = Paths(Path(config["root"]), int(config["range"])), Plan(int(config["range"]))
    devices = network.make(paths, plan, config["hosts"])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(config, devices, plan))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
