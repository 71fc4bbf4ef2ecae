"""`telemetry_overhead`: CPU of a home read with metrics and 1 % traces ÷ without, both in one run, alternating.

Two pairs of a gateway and a timelines service run next to the lab's own, on the same stores: one exports
metrics, is scraped as often as by Prometheus, and exports one trace in a hundred to Jaeger; the other runs
with TWEETLAB_METRICS=off and no collector. Blocks of load alternate between them, so that drift of the
machine affects both alike. The CPU is that of the pair's processes; the idle CPU of the silent pair is
subtracted from both sides, so timers and scrapes count against telemetry. `rss_small_observed_gib` is defined
here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from bench import drive, platform_rows
from bench.home_read import PATH, READERS
from scenarios import loader
from system.kernel import settings
from system.kernel.errors import CouldNotRun
from system.platform.servers import jaeger, prometheus
from tweetlab import home
from tweetlab.lab import session
from tweetlab.run import runner, sampler, seeding
from tweetlab.terminal import Screen

RATE_PER_S, BLOCK_S, ROUNDS, IDLE_S = 150.0, 3.0, 12, 6.0
MODULES = {"timelines": "system.services.timelines.app", "gateway": "system.services.gateway.app"}
TRACED = "0.01"
START_S = 30.0
LEAST_FRAMES = 30  # of a console with an open page during a run of a minute


@dataclass
class Pair:
    """A gateway and the timelines service behind it.

    `address`: of the gateway; `scraped`: the /metrics URLs to scrape.
    """

    address: str
    pids: tuple[int, ...]
    scraped: tuple[str, ...] = ()
    used_s: float = 0.0
    reads: int = 0

    def cpu_s(self) -> float:
        """Return the CPU time of both processes."""
        return sum(sampler.process_cpu_ns(pid) for pid in self.pids) / 1e9


async def overhead() -> float:
    """Return the ratio of the CPU per home read."""
    screen = Screen()
    scenario = loader.load("steady_home")
    async with session.opened(screen, "small", scenario.policies, observe=True) as lab:
        await seeding.ensure(lab, scenario)
        traces = {"TWEETLAB_OTLP": f"http://{lab.lab.plan.host('jaeger')}:{jaeger.OTLP_PORT}", "TWEETLAB_TRACE_RATIO": TRACED}
        silent = {"TWEETLAB_METRICS": "off", "TWEETLAB_OTLP": ""}
        async with _pair(lab, 1, traces, scraped=True) as instrumented, _pair(lab, 2, silent) as quiet:
            return await _compared(lab, instrumented, quiet, screen)


async def _compared(lab: session.Session, instrumented: Pair, quiet: Pair, screen: Screen) -> float:
    readers = list(range(1, READERS + 1))
    tokens = [{"authorization": f"Bearer {lab.token(u)}"} for u in readers]
    urls = {pair.address: [f"http://{pair.address}" + PATH.format(u) for u in readers] for pair in (instrumented, quiet)}
    for pair in (instrumented, quiet):
        await drive.get_at_rate(urls[pair.address], tokens, 100, 2 * READERS / 100, full=2_000, seed=2)
    before = quiet.cpu_s()
    await asyncio.sleep(IDLE_S)
    idle_per_s = (quiet.cpu_s() - before) / IDLE_S
    for n in range(ROUNDS):
        for pair in (instrumented, quiet) if n % 2 else (quiet, instrumented):
            await _block(pair, urls[pair.address], tokens, idle_per_s, seed=n)
    costs = [pair.used_s / pair.reads for pair in (instrumented, quiet)]
    screen.say(f"a home read in gateway and timelines: {costs[0] * 1e6:,.0f} µs of CPU with metrics and traces, "
               f"{costs[1] * 1e6:,.0f} µs without")
    return costs[0] / costs[1]


async def _block(pair: Pair, urls: list[str], tokens: list[dict[str, str]], idle_per_s: float, seed: int) -> None:
    """Load one pair for a block while scraping it like Prometheus, and add the CPU that it used."""
    scraping = asyncio.create_task(_scrape(pair.scraped))
    before = pair.cpu_s()
    sent = await drive.get_at_rate(urls, tokens, RATE_PER_S, BLOCK_S, full=2_000, seed=seed)
    pair.used_s += pair.cpu_s() - before - idle_per_s * sent.took_s
    pair.reads += sent.ok
    scraping.cancel()
    if sent.other:
        raise CouldNotRun(f"{sent.other} of {sent.ok + sent.other} replies were not full pages.")


async def _scrape(pages: tuple[str, ...]) -> None:
    async with aiohttp.ClientSession() as web:
        while pages:
            for page in pages:
                async with web.get(page) as reply:
                    await reply.read()
            await asyncio.sleep(prometheus.OURS_EVERY_S)


@contextlib.asynccontextmanager
async def _pair(lab: session.Session, number: int, more: dict[str, str], scraped: bool = False) -> AsyncIterator[Pair]:
    """Start a gateway and its timelines service next to the lab's own; stop both at the end."""
    at = {kind: f"127.{lab.settings.range}.{121 + n}.{number}:8000" for n, kind in enumerate(MODULES)}
    mesh = {**settings.default_mesh(lab.settings.range), "timelines": f"http://{at['timelines']}"}
    env = {**os.environ, "TWEETLAB_RANGE": str(lab.settings.range), "TWEETLAB_MESH": json.dumps(mesh),
           "TWEETLAB_JWT_SECRET": lab.jwt_secret, "TWEETLAB_POLICIES": lab.settings.policies.to_json(), **more}
    processes = []
    try:
        for kind, module in MODULES.items():
            own = {**env, "TWEETLAB_LISTEN": at[kind], "TWEETLAB_INSTANCE": f"{kind}-bench-{number}"}
            with lab.lab.log_path(own["TWEETLAB_INSTANCE"]).open("ab") as log:
                processes.append(await asyncio.create_subprocess_exec(sys.executable, "-m", module, cwd=home.ROOT, env=own,
                                                                      stdout=log, stderr=log))
        for address in at.values():
            await _until_healthy(address)
        pages = tuple(f"http://{address}/metrics" for address in at.values()) if scraped else ()
        yield Pair(at["gateway"], tuple(process.pid for process in processes), pages)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _until_healthy(address: str) -> None:
    deadline_s = asyncio.get_running_loop().time() + START_S
    async with aiohttp.ClientSession() as web:
        while asyncio.get_running_loop().time() < deadline_s:
            with contextlib.suppress(aiohttp.ClientError):
                async with web.get(f"http://{address}/health") as reply:
                    if reply.status == 200:
                        return
            await asyncio.sleep(0.2)
    raise CouldNotRun(f"{address} was not healthy within {START_S:g} s.")


async def rss_observed_gib() -> float:
    """Return the resident memory of all processes of an observed small lab right after a run of `first_run`, in GiB."""
    await platform_rows.fresh()
    scenario = loader.load("first_run")
    async with session.opened(Screen(), "small", scenario.policies, observe=True) as lab:
        async with _console(lab) as console:
            await runner.run(lab, scenario, "bench rss_small_observed_gib", check=False)
            if console.frames < LEAST_FRAMES or console.viewer is None or console.viewer.done():
                raise CouldNotRun(f"The console sent only {console.frames} frames, or its viewer ended.")
            return (sum((await lab.lab.rss_bytes()).values()) + _resident(console.pid)) / 2**30


@dataclass
class OpenConsole:
    """A console with an open page. `frames`: how many it has sent."""

    pid: int
    frames: int = 0
    viewer: asyncio.Task[None] | None = None


@contextlib.asynccontextmanager
async def _console(lab: session.Session) -> AsyncIterator[OpenConsole]:
    """Serve the console, and read its frames like a page in a browser."""
    env = os.environ | {"TWEETLAB_RANGE": str(lab.settings.range), "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tweetlab", "console", "--port", "0", "--json",
                                                   cwd=home.ROOT, env=env, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        started = json.loads(await asyncio.wait_for(process.stdout.readuntil(b"}\n"), START_S))
        console = OpenConsole(process.pid)
        console.viewer = asyncio.create_task(_read_frames(started["console"], console))
        try:
            yield console
        finally:
            console.viewer.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _read_frames(url: str, console: OpenConsole) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as web, web.get(f"{url}events") as reply:
        async for part in reply.content.iter_any():  # a frame is one long line
            console.frames += part.count(b"event: frame")


def _resident(pid: int) -> int:
    from system.platform.process import procs

    return procs.rss_bytes([pid])
