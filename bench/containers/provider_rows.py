"""Rows that compare a lab in containers with the native one: latency, CPU and memory of the same reads.

The images are the stand-ins, which are built from the native lab's own packages, so that both sides run the same
programs; their versions are printed. One lab is up at a time, in the order A B A B. Each is warmed at the measured
rate until the CPU per read of an anchor (gateway and timelines) changes by less than 3 % from one window to the next.
Containers are reached at their addresses on the bridge, without Docker's proxy.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench import drive, platform_rows
from bench.home_read import PATH, READERS
from scenarios import loader
from system.kernel.errors import CouldNotRun
from system.platform import native, runtimes
from system.platform.containers import api
from tweetlab.lab import session
from tweetlab.run import seeding
from tweetlab.terminal import Screen

RATE_PER_S, FOR_S, PAIRS = 100.0, 60.0, 2
ANCHOR = ("gateway", "timelines")
WINDOW_S, DRIFT, MAX_WINDOWS = 20.0, 0.03, 12
MEMORY_KEYS = ("total_rss", "anon")  # in memory.stat of control groups v1 and v2


@dataclass(frozen=True)
class Block:
    """One block on one lab. `p50_ms`: of home reads, from the intended start. `cpu_s`: of all nodes, per read.

    `rss_bytes`: sum over the memory groups of all nodes, page cache excluded, after the block.
    """

    p50_ms: float
    cpu_s: float
    rss_bytes: int


async def home_read_p50_ratio() -> float:
    """Return the median latency of home reads in containers ÷ native."""
    return _ratio("p50", await _blocks(), lambda block: block.p50_ms)


async def home_read_cpu_ratio() -> float:
    """Return CPU per home read of all nodes in containers ÷ native."""
    return _ratio("CPU per read", await _blocks(), lambda block: block.cpu_s)


async def rss_ratio() -> float:
    """Return resident memory of all nodes in containers ÷ native, after the same reads."""
    return _ratio("resident memory", await _blocks(), lambda block: float(block.rss_bytes))


def _ratio(name: str, pairs: list[tuple[Block, Block]], value: Callable[[Block], float]) -> float:
    """Return the geometric mean of the pairs' ratios, docker ÷ native, and print it with their range."""
    ratios = [value(docker) / value(host) for host, docker in pairs]
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
    Screen().say(f"{name}, docker ÷ native: {mean:.3f} ({min(ratios):.3f} to {max(ratios):.3f} of {len(ratios)} pairs)")
    return mean


async def _blocks() -> list[tuple[Block, Block]]:
    os.environ["TWEETLAB_IMAGES"] = "ours"
    return [(await _block(runtimes.NATIVE), await _block(runtimes.DOCKER)) for _ in range(PAIRS)]


async def _block(provider: str) -> Block:
    """Start a lab of the provider on empty data, warm it, measure one block, and stop it."""
    lab, screen, scenario = await platform_rows.fresh(), Screen(), loader.load("steady_home")
    try:
        await session.start(lab, "small", screen, scenario.policies, provider=provider)
        screen.say(f"{provider}: {lab.versions()}")
        async with session.opened(screen, "small", scenario.policies, keep=True, resets=True) as opened:
            await seeding.ensure(opened, scenario)
            tokens = [{"authorization": f"Bearer {opened.token(u)}"} for u in range(1, READERS + 1)]
            urls = [opened.base_url + PATH.format(u) for u in range(1, READERS + 1)]

            async def reads(for_s: float) -> drive.Drive:
                sent = await drive.get_at_rate(urls, tokens, RATE_PER_S, for_s, full=2_000)
                if sent.other > 0.1 * sent.ok:
                    raise CouldNotRun(f"{sent.other} of {sent.ok + sent.other} home reads on {provider} were not full pages.")
                return sent

            await _settle(lab, reads, screen)
            before_s = await _cpu_s(lab)
            sent = await reads(FOR_S)
            used_s = await _cpu_s(lab) - before_s
            return Block(statistics.median(sent.latencies_s) * 1e3, used_s / sent.ok, await _rss_bytes(lab))
    finally:
        await lab.down(purge=True)


async def _settle(lab: native.Lab, reads: Callable[[float], Awaitable[drive.Drive]], screen: Screen) -> None:
    """Read until the anchor's CPU per read is stable. Raises CouldNotRun if it never is."""
    last_s = math.inf
    for window in range(MAX_WINDOWS):
        before_s = await _cpu_s(lab, ANCHOR)
        sent = await reads(WINDOW_S)
        per_read_s = (await _cpu_s(lab, ANCHOR) - before_s) / sent.ok
        screen.say(f"window {window + 1}: {per_read_s * 1e6:,.0f} µs of CPU per read in {' and '.join(ANCHOR)}")
        if abs(per_read_s - last_s) < DRIFT * last_s:
            return
        last_s = per_read_s
    raise CouldNotRun(f"The CPU per read still changes by more than {DRIFT:.0%} after {MAX_WINDOWS * WINDOW_S:.0f} s: "
                      "the machine is too noisy to compare.")


async def _cpu_s(lab: native.Lab, kinds: tuple[str, ...] = ()) -> float:
    rows = await lab.cpu_ns()
    return sum(ns for node, ns in rows.items() if not kinds or node.rpartition("-")[0] in kinds) / 1e9


async def _rss_bytes(lab: native.Lab) -> int:
    """Return the memory of all nodes by their control groups, the same measure for both providers."""
    total = 0
    for row in await lab.status():
        folder = api.cgroup(row.pid, "memory")
        if folder is None:
            raise CouldNotRun(f"The memory group of {row.name} cannot be read. To fix: run as root.")
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        total += int(next(rows[key] for key in MEMORY_KEYS if key in rows))
    return total
