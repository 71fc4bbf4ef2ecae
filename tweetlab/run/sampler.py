"""Samples of the machine and the lab, once a second: CPU and memory per process, consumer lag, cache hits.

CPU of a lab's node comes from the platform (cgroup or process CPU clock: ns, exited threads included). CPU of
the load generator and of the runner comes from their process CPU clocks. The sum must match the host's busy
time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

CPUCLOCK_SCHED = 2  # Linux: clock id of another process' CPU time is ~pid << 3 | 2 (clock_getcpuclockid(3))
Reader = Callable[[], Awaitable[dict[str, float]]]


def process_cpu_ns(pid: int) -> int:
    """Return the CPU time of all threads of `pid`, exited ones included, in ns; 0 if it has exited."""
    try:
        return time.clock_gettime_ns(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        return 0


@dataclass(frozen=True)
class HostTimes:
    """Core seconds since boot: `busy` (everything but idle and iowait), `steal` (taken by the hypervisor)."""

    busy_s: float
    steal_s: float


def host_times(text: str | None = None) -> HostTimes:
    """Return the host's times from /proc/stat (resolution 10 ms)."""
    line = (text or Path("/proc/stat").read_text()).splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(x) / 100 for x in line[:8])
    return HostTimes(user + nice + system + irq + softirq, steal)


@dataclass(frozen=True)
class Sample:
    """One number of one second. `t_s`: start of the second, from the start of load."""

    t_s: float
    name: str
    route: str
    node: str
    value: float


@dataclass
class Sources:
    """The sources of the samples. Counters are cumulative; gauges are current values.

    `cpu_ns`, `rss_bytes`: by node. `lag`: records by consumer group. `counters`: more cumulative counts by
    name. `pids`: more processes by node name. `instances`: by service; None if their number is fixed.
    """

    cpu_ns: Reader
    rss_bytes: Reader
    lag: Reader
    counters: Reader
    pids: dict[str, int] = field(default_factory=dict)
    instances: Reader | None = None


class Sampler:
    """Samples until it is stopped; `rows` grows in the meantime and is valid at any time."""

    def __init__(self, sources: Sources, start_ns: int, every_s: float = 1.0) -> None:
        self.rows: list[Sample] = []
        self.problems: list[str] = []
        self.totals_s: dict[str, float] = {}
        self.host: dict[str, float] = {"busy_s": 0.0, "steal_s": 0.0, "wall_s": 0.0}
        self._sources, self._start_ns, self._every_s = sources, start_ns, every_s
        self._last: dict[str, tuple[float, float]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Sample each second on a fixed grid until `stop` is set; the last second may be short."""
        self._record(await self._read())
        due_ns = time.monotonic_ns()
        while not stop.is_set():
            due_ns += int(self._every_s * 1e9)
            try:
                await asyncio.wait_for(stop.wait(), max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
            except TimeoutError:
                pass
            now = await self._read()
            self._record(now)
            await self._gauges(now["at_ns"])

    async def _read(self) -> dict[str, float]:
        values = {f"cpu:{node}": ns for node, ns in (await self._query("cpu", self._sources.cpu_ns)).items()}
        values |= {f"cpu:{node}": float(process_cpu_ns(pid)) for node, pid in self._sources.pids.items()}
        values |= {f"count:{k}": v for k, v in (await self._query("counters", self._sources.counters)).items()}
        host = host_times()
        return values | {"host:busy": host.busy_s, "host:steal": host.steal_s, "at_ns": float(time.monotonic_ns())}

    def _record(self, now: dict[str, float]) -> None:
        at_ns = now["at_ns"]
        for key, value in now.items():
            # Difference to the last reading of this source: a gap reduces resolution but loses no work.
            since_ns, before = self._last.get(key, (at_ns, value))
            restarted = value < before and key.startswith("count:")  # a restart resets a server's own counters
            if not restarted:
                value = max(value, before)  # CPU of a node continues over restarts; it may dip while a child is reaped
            self._last[key] = (at_ns, value)
            if at_ns > since_ns:
                self._add_increase(key, value if restarted else value - before, since_ns, at_ns)

    def _add_increase(self, key: str, increase: float, since_ns: float, at_ns: float) -> None:
        kind, _, name = key.partition(":")
        t_s, took_s = (since_ns - self._start_ns) / 1e9, (at_ns - since_ns) / 1e9
        if kind == "cpu":
            self.totals_s[name] = self.totals_s.get(name, 0.0) + increase / 1e9
            self._add(t_s, "cpu_cores", name, increase / 1e9 / took_s)
        elif kind == "count":
            self._add(t_s, name, "", increase / took_s)
        elif kind == "host":
            self.host[f"{name}_s"] += increase
            self._add(t_s, "host_busy_cores" if name == "busy" else "steal_cores", "", increase / took_s)
            if name == "busy":
                self.host["wall_s"] += took_s

    async def _gauges(self, at_ns: float) -> None:
        t_s = (at_ns - self._start_ns) / 1e9
        for node, value in (await self._query("memory", self._sources.rss_bytes)).items():
            self._add(t_s, "rss_mib", node, value / 2**20)
        for group, value in (await self._query("lag", self._sources.lag)).items():
            self._add(t_s, "lag", group, value)
        if self._sources.instances is not None:
            for service, value in (await self._query("instances", self._sources.instances)).items():
                self._add(t_s, "instances", service, value)

    def _add(self, t_s: float, name: str, node: str, value: float) -> None:
        self.rows.append(Sample(round(t_s, 3), name, "", node, value))

    async def _query(self, what: str, source: Reader) -> dict[str, float]:
        # A source that fails (its server was just killed) leaves a gap in the series and does not end the run.
        try:
            return await asyncio.wait_for(source(), 2.0)
        except Exception as problem:  # including a client's own errors: redis-py's are neither OSError nor LabError
            self.problems.append(f"{what}: {problem!r}")
            return {}
