"""The WAN emulator: one process that forwards every packet between the regions of a lab.

`python -m system.platform.regions.wan_emulator CONFIG`.

It owns a `tun` device in each region and one outside (`network.py`). It reads IP packets, applies the link
that is configured for their direction (`system/kernel/wan.py`), and writes them to the device of the target
region. Delay, loss, bandwidth and cuts apply to every protocol alike, and no address is rewritten.

It serves a Unix socket; a request is one line of JSON. In requests and replies a link is called `line`:

    {"op": "look"}                                        report all links
    {"op": "set", "pairs": [[1, 2]], "line": {...}}       change links
    {"op": "calm", "pairs": [[1, 2]]}                     reset links to their defaults, except for cuts
    {"op": "reset"}                                       reset all links to their defaults

The settings of the links are on disk before it replies, so after a kill it restarts with the same cuts. They
are deleted together with the network namespaces (`network.remove`).
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
from system.kernel.wan import Link, LinkState
from system.platform.addresses import Plan
from system.platform.paths import Paths
from system.platform.regions import network

MAX_PACKET = 65_536
NETWORKS = (10, 127)  # first octet of the regions' addresses, and of their second addresses, on loopback
IP_HEADER = 20
BATCH = 64  # packets read from one device before the next device is served
DEFAULT_DELAY_S = 0.010
"""One-way delay between two regions: a round trip of 20 ms, as over some 1,500 km of fiber."""

_log = logging.getLogger("tweetlab")


class WanEmulator:
    """All links of one lab.

    `devices`: region -> open `tun` device. `state`: the file that stores the settings of the links.
    `delay_s`: default one-way delay. `ways`: (source region, target region) -> link.
    """

    def __init__(self, plan: Plan, devices: dict[int, int], state: Path, delay_s: float) -> None:
        self._devices = devices
        self._state = state
        self._defaults = {pair: _default_line(pair, delay_s) for pair in _pairs()}
        self.ways = {pair: LinkState(line) for pair, line in (self._defaults | _stored(state)).items()}
        self._delayed: dict[tuple[int, int], deque[tuple[float, bytes]]] = {pair: deque() for pair in self.ways}
        self._below_first = plan.range - 1  # region = second octet of an address - this
        self._random = random.Random(plan.range)
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
            if (link := self.ways.get(pair)) is not None:
                self._forward(pair, link, packet)

    def _forward(self, pair: tuple[int, int], link: LinkState, packet: bytes) -> None:
        now_s = self._loop.time()
        due_s = link.enter(now_s, len(packet), self._random.random(), self._random.random())
        if due_s is None:
            return
        queue = self._delayed[pair]
        if due_s <= now_s and not queue:
            self._write(pair[1], packet)
            return
        link.waiting += len(packet)
        queue.append((due_s, packet))
        if len(queue) == 1:
            self._loop.call_at(due_s, self._release_due, pair)

    def _release_due(self, pair: tuple[int, int]) -> None:
        queue, link, now_s = self._delayed[pair], self.ways[pair], self._loop.time()
        while queue and queue[0][0] <= now_s:
            packet = queue.popleft()[1]
            link.waiting -= len(packet)
            if link.line.cut:  # the link was cut while the packet was in transit
                link.lost += 1
            else:
                self._write(pair[1], packet)
        if queue:
            self._loop.call_at(queue[0][0], self._release_due, pair)

    def _write(self, region: int, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # a full device drops the packet, as a router does
            os.write(self._devices[region], packet)

    def set(self, pairs: list[list[int]], line: dict[str, Any]) -> None:
        """Change the links of `pairs`; settings that `line` does not contain stay.

        Raises WrongInput, and then changes nothing.
        """
        changed = {}
        for pair in self._known(pairs):
            try:
                changed[pair] = Link(**{**self.ways[pair].line.to_json(), **line})
            except TypeError:
                raise WrongInput(f"Settings of a link are {sorted(line)}; known are {sorted(Link().to_json())}.") from None
        self._apply({pair: link.line for pair, link in self.ways.items()} | changed)

    def calm(self, pairs: list[list[int]]) -> None:
        """Reset the links of `pairs` to their defaults, except for cuts.

        Raises WrongInput, and then changes nothing.
        """
        defaults = {pair: replace(self._defaults[pair], cut=self.ways[pair].line.cut) for pair in self._known(pairs)}
        self._apply({pair: link.line for pair, link in self.ways.items()} | defaults)

    def _known(self, pairs: list[list[int]]) -> list[tuple[int, int]]:
        known = []
        for regions in pairs:
            pair = (regions[0], regions[1]) if len(regions) == 2 else (0, 0)
            if pair not in self.ways:
                raise WrongInput(f"There is no link between the regions {regions}; regions are {wan.NAMES}.")
            known.append(pair)
        return known

    def reset(self) -> None:
        """Reset all links to their defaults, including cuts."""
        self._apply(self._defaults)

    def look(self) -> list[dict[str, Any]]:
        """Return a row for each link: settings, packets, bytes, lost packets, and bytes that wait."""
        return [{"from": pair[0], "to": pair[1], **link.line.to_json(),
                 "packets": link.packets, "bytes": link.bytes, "lost": link.lost, "waiting": link.waiting}
                for pair, link in self.ways.items()]

    def _apply(self, lines: dict[tuple[int, int], Link]) -> None:
        part = self._state.with_suffix(".part")
        part.write_text(json.dumps([[*pair, line.to_json()] for pair, line in lines.items()]))
        part.replace(self._state)
        for pair, line in lines.items():
            self.ways[pair].line = line


def pair_of(packet: bytes, region: int, below_first: int) -> tuple[int, int]:
    """Return (source region, target region) of a packet read in `region`; (0, 0) for foreign ones.

    The source must be an address of `region`: if this machine forwards packets for other hosts, those arrive
    with other sources. `below_first`: the second octet of the first region's addresses, minus 1.
    """
    if len(packet) < IP_HEADER or packet[0] >> 4 != 4 or packet[12] not in NETWORKS or packet[16] not in NETWORKS:
        return (0, 0)
    return (region, packet[17] - below_first) if packet[13] - below_first == region else (0, 0)


def _pairs() -> list[tuple[int, int]]:
    return [(one, other) for one in wan.NAMES for other in wan.NAMES if one != other]


def _default_line(pair: tuple[int, int], delay_s: float) -> Link:
    return Link() if wan.OUTSIDE in pair else Link(delay_s=delay_s)


def _stored(state: Path) -> dict[tuple[int, int], Link]:
    try:
        return {(one, other): Link(**line) for one, other, line in json.loads(state.read_text())}
    except (OSError, ValueError, TypeError):  # no file yet, or an invalid one
        return {}


def answer(emulator: WanEmulator, request: dict[str, Any]) -> Any:
    """Execute one request and return the rows of `look`. Raises WrongInput."""
    match request.get("op"):
        case "look":
            return emulator.look()
        case "set":
            emulator.set(list(request.get("pairs", [])), dict(request.get("line", {})))
        case "calm":
            emulator.calm(list(request.get("pairs", [])))
        case "reset":
            emulator.reset()
        case other:
            raise WrongInput(f"The operation {other!r} is unknown; known are look, set, calm, reset.")
    return emulator.look()


async def _serve(config: dict[str, Any], devices: dict[int, int], plan: Plan) -> None:
    emulator = WanEmulator(plan, devices, Path(config["state"]), float(config["delay_s"]))

    async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    reply = {"result": answer(emulator, json.loads(line))}
                except (LabError, ValueError, TypeError, OSError) as problem:
                    reply = {"error": str(problem)}
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    socket = Path(config["socket"])
    socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(serve_client, socket)
    socket.chmod(0o600)
    async with server:
        await server.serve_forever()


def main(arguments: list[str]) -> int:
    """Create namespaces and devices, then forward packets until the process is stopped."""
    logs.setup("wan")
    config = json.loads(Path(arguments[0]).read_text())
    paths, plan = Paths(Path(config["root"]), int(config["range"])), Plan(int(config["range"]))
    devices = network.make(paths, plan, config["hosts"])
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(config, devices, plan))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
