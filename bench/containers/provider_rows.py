"""Rows that compare a lab in containers with the native one: latency, CPU and memory of the same reads.

The images are the stand-ins, which are built from the native lab's own packages, so that both sides run the same
programs; their versions are printed. One lab is up at a time, in the order A B A B. Each is warmed at the measured
rate until the CPU per read of an anchor (gateway and timelines) changes by less than 3 % from one window to the next.
Containers are reached at their addresses on the bridge, without Docker's proxy. The four labs are measured once for all
three rows (ROW=docker_vs_native_home_read_p50,docker_vs_native_home_read_cpu,docker_rss_vs_native).

Intervals are 95 % percentiles of a bootstrap of pairs, and within each of windows. Two pairs say little about how labs
differ, so the interval is at least the range of the pairs.
"""

from __future__ import annotations

import math
import os
import random
import statistics
from collections.abc import Awaitable, Callable, Sequence
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
SLICE_S = 10.0  # of a block: unit of the bootstrap
WINDOW_S, DRIFT, MAX_WINDOWS = 20.0, 0.03, 12
DRAWS = 2_000
MEMORY_KEYS = ("total_rss", "anon")  # in memory.stat of control groups v1 and v2


@dataclass(frozen=True)
class Block:
    """One block on one lab, by windows of SLICE_S.

    `p50_ms`: of home reads, from the intended start. `cpu_s`: of all nodes, per read. `rss_bytes`: one value, the sum
    over the memory groups of all nodes after the block, page cache excluded.
    """

    p50_ms: tuple[float, ...]
    cpu_s: tuple[float, ...]
    rss_bytes: tuple[float, ...]


Pair = tuple[Block, Block]
_measured: list[Pair] = []


async def home_read_p50_ratio() -> float:
    """Return the median latency of home reads in containers ÷ native."""
    return _report("p50 in ms", await _pairs(), lambda block: block.p50_ms)


async def home_read_cpu_ratio() -> float:
    """Return CPU per home read of all nodes in containers ÷ native."""
    return _report("CPU per read in ms", await _pairs(), lambda block: tuple(1e3 * value for value in block.cpu_s))


async def rss_ratio() -> float:
    """Return resident memory of all nodes in containers ÷ native, after the same reads."""
    return _report("resident memory in MiB", await _pairs(), lambda block: tuple(value / 2**20 for value in block.rss_bytes))


def _report(name: str, pairs: list[Pair], values: Callable[[Block], tuple[float, ...]]) -> float:
    """Print the blocks and the ratio docker ÷ native with its interval; return the ratio."""
    sides = [(values(host), values(docker)) for host, docker in pairs]
    ratio, low, high = ratio_of(sides)
    blocks = " ".join(f"{statistics.fmean(host):.2f} {statistics.fmean(docker):.2f}" for host, docker in sides)
    Screen().say(f"{name}, native docker {len(pairs)} times: {blocks}; ratio {ratio:.3f}, interval {low:.3f} to {high:.3f}")
    return ratio


def ratio_of(sides: Sequence[tuple[Sequence[float], Sequence[float]]]) -> tuple[float, float, float]:
    """Return the geometric mean of B ÷ A over pairs of blocks (A, B), and the bounds of its interval."""
    def mean(chosen: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
        return math.exp(statistics.fmean(math.log(statistics.fmean(b) / statistics.fmean(a)) for a, b in chosen))

    draw = random.Random(1)

    def again(pair: tuple[Sequence[float], Sequence[float]]) -> tuple[Sequence[float], Sequence[float]]:
        a, b = pair
        return draw.choices(a, k=len(a)), draw.choices(b, k=len(b))

    draws = sorted(mean([again(pair) for pair in draw.choices(sides, k=len(sides))]) for _ in range(DRAWS))
    of_pairs = [mean([pair]) for pair in sides]
    return mean(sides), min(*of_pairs, draws[int(0.025 * DRAWS)]), max(*of_pairs, draws[int(0.975 * DRAWS)])


async def _pairs() -> list[Pair]:
    """Return the pairs (native, docker), measured the first time."""
    os.environ["TWEETLAB_IMAGES"] = "ours"
    if not _measured:
        _measured.extend([(await _block(runtimes.NATIVE), await _block(runtimes.DOCKER)) for _ in range(PAIRS)])
    return _measured


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
            p50_ms, cpu_s = [], []
            for _ in range(int(FOR_S / SLICE_S)):
                before_s = await _cpu_s(lab)
                sent = await reads(SLICE_S)
                p50_ms.append(1e3 * statistics.median(sent.latencies_s))
                cpu_s.append((await _cpu_s(lab) - before_s) / sent.ok)
            return Block(tuple(p50_ms), tuple(cpu_s), (float(await _rss_bytes(lab)),))
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
