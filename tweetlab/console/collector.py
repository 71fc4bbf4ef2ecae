"""Collects the state of the lab once a second while the page is open, as one frame.

A lab that is down is a frame too.

While no page is open, nothing is queried. Health, CPU, memory and HAProxy's counters are read each second,
the processes' /metrics every second time, queues, alerts and runs less often: see the constants.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from system import bootstrap
from system.kernel import settings
from system.kernel.errors import LabError
from system.platform import native
from system.platform.provider import NodeStatus
from system.platform.servers import sentinel
from system.platform.servers import wan as emulator
from tweetlab.console import current_run, haproxy_stats, scrape, topology, watchers
from tweetlab.console.scrape import Growth, Reading
from tweetlab.lab import regions
from tweetlab.run import sampler

Json = dict[str, Any]
EVERY_S = 1.0
METRICS_EVERY, LAG_EVERY, ALERTS_EVERY = 2, 2, 5   # frames
KEPT = 300                                   # points of the charts: five minutes
PATIENCE_S = 1.0                             # for one reply


@dataclass
class Last:
    """Readings of the previous frame, and values that are read less often than each second."""

    at_s: float = 0.0
    cpu_ns: dict[str, int] = field(default_factory=dict)
    busy_s: float = 0.0
    balancers: dict[str, list[haproxy_stats.Row]] = field(default_factory=dict)  # HAProxy -> its statistics
    readings: dict[str, Reading] = field(default_factory=dict)
    grown: dict[str, list[Growth]] = field(default_factory=dict)
    lags: dict[str, int] = field(default_factory=dict)
    alerts: list[Json] | None = None
    runs: list[Json] = field(default_factory=list)
    lines: list[Json] = field(default_factory=list)  # between regions
    active: str = ""  # the region of the cache's primary


class Collector:
    """Produces frames of the lab of checkout `root` in range `number`.

    `past`: the points of the charts, oldest first.
    """

    def __init__(self, root: Path, number: int, runs: Path) -> None:
        self.lab = native.Lab(root, number)
        self.past: deque[Json] = deque(maxlen=KEPT)
        self._running = current_run.Running(self.lab.paths.state)
        self._runs = current_run.Runs(runs)
        self._last = Last()
        self._web: aiohttp.ClientSession | None = None
        self._log: Any = None
        self._hops: list[topology.Hop] = []
        self._number = 0

    async def frame(self) -> Json:
        """Read everything that is due and return the frame. Never raises because of the lab's state."""
        self._number += 1
        nodes, cpu_ns = await self._nodes()
        now_s = time.monotonic()  # read together with the counters: the reading may take a second on a busy machine
        busy_s = sampler.host_times().busy_s
        took_s = now_s - self._last.at_s
        cores = _cores(self._last.cpu_ns, cpu_ns, took_s)
        host = max(0.0, busy_s - self._last.busy_s) / took_s
        await asyncio.gather(self._read_balancers(nodes, took_s), self._read_metrics(nodes), self._read_rest(nodes),
                             self._regions(nodes))
        frame = self._frame(nodes, cores, host)
        self._last.at_s, self._last.cpu_ns, self._last.busy_s = now_s, cpu_ns, busy_s
        return frame

    async def close(self) -> None:
        """Close what is open. Safe to repeat."""
        if self._web is not None:
            await self._web.close()
            self._web = None
        await self._forget_log()

    def rest(self) -> None:
        """Discard the previous readings, so that rates do not span the time without viewers."""
        self._last = Last(runs=self._last.runs)

    async def _nodes(self) -> tuple[list[NodeStatus], dict[str, int]]:
        try:
            async with asyncio.timeout(4 * PATIENCE_S):
                nodes = await self.lab.status()
                return nodes, await self.lab.cpu_ns() if nodes else {}
        except (LabError, OSError, TimeoutError, ValueError):
            return [], {}

    async def _read_balancers(self, nodes: list[NodeStatus], took_s: float) -> None:
        names = [node.name for node in nodes if node.kind == "haproxy"]
        replies = await asyncio.gather(*(haproxy_stats.ask(self.lab.paths.data_dir / f"{name}.sock") for name in names))
        statistics, previous = dict(zip(names, replies)), self._last.balancers
        hops = [hop for name, rows in statistics.items()
                for hop in topology.through_haproxy(previous.get(name, ()), rows, took_s)]
        self._hops = topology.added(hops) if self._last.at_s else []
        self._last.balancers = statistics

    async def _read_metrics(self, nodes: list[NodeStatus]) -> None:
        if self._number % METRICS_EVERY and self._last.grown:
            return
        ours = [node for node in nodes if node.role == "service" and node.pid]
        texts = await asyncio.gather(*(self._text(f"http://{node.address}/metrics") for node in ours))
        grown: dict[str, list[Growth]] = {}
        for node, text in zip(ours, texts):
            if text is not None:
                reading = scrape.read(text, time.monotonic())
                grown.setdefault(node.kind, []).append(scrape.growth(self._last.readings.get(node.name), reading))
                self._last.readings[node.name] = reading
        self._last.grown = grown

    async def _read_rest(self, nodes: list[NodeStatus]) -> None:
        if self._number % LAG_EVERY == 0:
            self._last.lags = await self._lags(nodes)
        if self._number % ALERTS_EVERY == 1:
            self._last.alerts = await watchers.alerts(self._session(), nodes)
            self._last.runs = await asyncio.to_thread(self._runs.newest)

    async def _text(self, url: str) -> str | None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with self._session().get(url) as reply:
                return await reply.text() if reply.status == 200 else None
        return None

    def _session(self) -> aiohttp.ClientSession:
        if self._web is None:
            self._web = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
        return self._web

    async def _regions(self, nodes: list[NodeStatus]) -> None:
        """Read the state of the WAN links between regions, and which region is active."""
        if not any(node.role == "network" for node in nodes):
            self._last.lines, self._last.active = [], ""
            return
        try:
            self._last.lines = regions.between(await emulator.ask(self.lab.paths, {"op": "look"}))
        except LabError:
            self._last.lines = []
        if self._number % METRICS_EVERY == 0 or not self._last.active:
            sentinels = [node.address for node in nodes if node.kind == "sentinel"]
            primary = await asyncio.to_thread(sentinel.elected_primary, sentinels)
            self._last.active = next((regions.place_of(node) for node in nodes if primary and node.address == primary), "")

    async def _lags(self, nodes: list[NodeStatus]) -> dict[str, int]:
        wanted = topology.groups(self._last.grown, (node.kind for node in nodes if node.role == "service"))
        if not wanted or not any(node.kind == "kafka" and node.health == "healthy" for node in nodes):
            await self._forget_log()
            return {}
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                if self._log is None:
                    self._log = await bootstrap.open_ports(await _settings(self.lab), ("log",), patience_s=PATIENCE_S)
                log = self._log.ports.log
                lags = await asyncio.gather(*(log.lag(group, topics) for group, topics in wanted.items()))
        except (LabError, OSError, TimeoutError):
            await self._forget_log()
            return {}
        return {group: sum(max(0, records) for records in lag.values()) for group, lag in zip(wanted, lags)}

    async def _forget_log(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            with contextlib.suppress(LabError, OSError, TimeoutError):
                await asyncio.wait_for(log.close(), PATIENCE_S)

    def _frame(self, nodes: list[NodeStatus], cores: dict[str, float], host: float) -> Json:
        load = self._running.read()
        hops = topology.joined(self._hops, topology.calls(self._last.grown))
        routes, buckets = topology.routes(self._last.grown.get("gateway", ()))
        traffic = _traffic(hops, buckets, [row for rows in self._last.balancers.values() for row in rows])
        point = _point(nodes, cores, host, traffic, self._last.lags, load)
        if self._last.at_s:
            self.past.append(point)
        return {
            "t": point["t"], "state": _state(nodes), "range": self.lab.plan.range,
            "host": {"cores": os.cpu_count(), "busy": point["host"]},
            "nodes": [_node(node, cores.get(node.name)) for node in nodes], "hops": [hop.as_dict() for hop in hops],
            "traffic": traffic | {"routes": routes}, "lags": self._last.lags, "load": load, "faults": self._running.faults(),
            "alerts": self._last.alerts, "observed": any(node.kind == "prometheus" for node in nodes),
            "caches": topology.caches(self._last.grown),
            "breakers": topology.breakers({node.name: self._last.readings[node.name].values for node in nodes
                                           if node.pid and node.name in self._last.readings}),
            "links": watchers.links(nodes), "runs": self._last.runs, "point": point,
            "lines": self._last.lines, "active": self._last.active,
        }

    def load_so_far(self) -> Json:
        """Return the start of the load that runs or ran last, and its last seconds."""
        load = self._running.read()
        return {"started_ms": load["started_ms"] if load else 0, "ticks": self._running.ticks[-KEPT:]}


def _cores(before: dict[str, int], after: dict[str, int], took_s: float) -> dict[str, float]:
    return {node: max(0, ns - before[node]) / took_s / 1e9 for node, ns in after.items() if node in before and took_s > 0}


async def _settings(lab: native.Lab) -> settings.Settings:
    stores = json.dumps(lab.stores(await lab.blueprint()))
    return settings.from_env({"TWEETLAB_RANGE": str(lab.plan.range), "TWEETLAB_STORES": stores})


def _state(nodes: list[NodeStatus]) -> str:
    """Return `down`, `starting`, `healthy` or `impaired`."""
    if not nodes:
        return "down"
    serving = any(node.role == "service" and node.state == "healthy" for node in nodes)
    if not serving and any(node.state == "starting" for node in nodes):
        return "starting"
    return "healthy" if all(node.health == "healthy" and node.state == "healthy" for node in nodes) else "impaired"


def _node(node: NodeStatus, cores: float | None) -> Json:
    box = topology.box_of(node.kind)
    return {
        "name": node.name, "kind": node.kind, "role": node.role, "title": box.title, "lane": box.lane, "what": box.what,
        "state": node.state, "health": node.health,
        "healthy": node.health == "healthy" and node.state == "healthy", "pid": node.pid,
        "address": node.address, "rss_mib": round(node.rss_bytes / 2**20), "cores": None if cores is None else round(cores, 3),
        "restarts": node.restarts, "started_at": node.started_at, "auto_heal": node.auto_heal,
        "zone": node.zone, "place": regions.place_of(node),
    }


def _traffic(hops: list[topology.Hop], buckets: dict[float, float], rows: list[haproxy_stats.Row]) -> Json:
    """Return rate, errors, requests in flight and latency of the public API."""
    front = next((hop for hop in hops if (hop.source, hop.target) == ("clients", "haproxy")), None)
    inside = sum(row.inside + row.queued for row in rows if (row.proxy, row.place) == ("gateway", "BACKEND"))
    traffic: Json = {"rate": front and round(front.rate, 1), "errors": front and round(front.errors, 1), "inside": inside}
    for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
        value_s = scrape.percentile(buckets, share)
        traffic[name] = None if value_s is None else round(value_s * 1e3, 2)
    return traffic


def _point(nodes: list[NodeStatus], cores: dict[str, float], host: float, traffic: Json, lags: dict[str, int],
           load: Json | None) -> Json:
    """Return one second of the charts.

    `c50`, `c99`: at the client, from the intended start, while a load runs.
    """
    roles: dict[str, float] = {}
    for node in nodes:
        roles[node.role] = roles.get(node.role, 0.0) + cores.get(node.name, 0.0)
    point: Json = {
        "t": time.time_ns() // 1_000_000, "rate": traffic["rate"], "errors": traffic["errors"], "p50": traffic["p50_ms"],
        "p99": traffic["p99_ms"], "host": round(host, 3), "cpu": {role: round(value, 3) for role, value in roles.items()},
        "lag": dict(lags),
    }
    tick = load["tick"] if load and load["phase"] == "loading" else None
    if tick:
        pooled = tick["routes"].get("all", {})
        point |= {"c50": pooled.get("p50"), "c99": pooled.get("p99"), "planned": tick["planned"]}
    return point
