"""`home_read_cpu_ratio`: CPU of the full path for one home read of 20 tweets, relative to a minimal server.

Full path: HAProxy, gateway, HAProxy, timelines (tokens, deadlines, completeness, followings, own and pulled
tweets). Baseline: `bare_app`, one FastAPI process with the token check and two Redis calls. Same machine,
same run, same readers, same rate, same tweets; each side's idle CPU is measured first and subtracted. CPU of
Redis counts on neither.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

import orjson

from bench import drive
from scenarios import loader
from system.kernel.errors import CouldNotRun
from tweetlab import home
from tweetlab.lab import session
from tweetlab.run import sampler, seeding
from tweetlab.terminal import Screen

RATE_PER_S, FOR_S, IDLE_S, READERS = 150.0, 20.0, 8.0, 200
OURS = ("haproxy", "gateway", "users", "tweets", "timelines", "search", "media", "fanout", "indexer", "relay")
PATH = "/2/users/{}/timelines/reverse_chronological?max_results=20"


async def cpu_ratio() -> float:
    """Return CPU per read of the full path ÷ CPU per read of the bare app."""
    screen = Screen()
    scenario = loader.load("steady_home")
    async with session.opened(screen, "small", scenario.policies) as lab:
        await seeding.ensure(lab, scenario)
        readers = list(range(1, READERS + 1))
        tokens = [{"authorization": f"Bearer {lab.token(u)}"} for u in readers]
        ours = [lab.base_url + PATH.format(u) for u in readers]
        await _warm(ours, tokens)

        async def lab_cpu() -> float:
            cpu_ns = await lab.lab.cpu_ns()
            return float(sum(ns for node, ns in cpu_ns.items() if node.rpartition("-")[0] in OURS)) / 1e9

        full_s = await _cost(lab_cpu, ours, tokens)
        screen.say(f"full path: {full_s * 1e6:,.0f} µs of CPU per home read")
        bare_s = await _bare(lab, readers, tokens)
        screen.say(f"bare FastAPI app: {bare_s * 1e6:,.0f} µs")
        return full_s / bare_s


async def _warm(urls: list[str], headers: list[dict[str, str]]) -> None:
    """Read every timeline twice, so that lists and tweets are cached.

    Raises CouldNotRun unless pages are full.
    """
    sent = await drive.get_at_rate(urls, headers, 100, 2 * len(urls) / 100 + 2, full=2_000, seed=2)
    if sent.ok < 0.9 * (sent.ok + sent.other):
        raise CouldNotRun(f"{sent.other} of {sent.ok + sent.other} home reads were not full pages: the lab cannot be measured.")


async def _cost(cpu_s: Callable[[], Awaitable[float]], urls: list[str], headers: list[dict[str, str]]) -> float:
    """Return core seconds per read, without idle CPU.

    Raises CouldNotRun unless every reply is a full page.
    """
    before = await cpu_s()
    await asyncio.sleep(IDLE_S)
    idle_per_s = (await cpu_s() - before) / IDLE_S
    before = await cpu_s()
    sent = await drive.get_at_rate(urls, headers, RATE_PER_S, FOR_S, full=2_000)
    used = await cpu_s() - before - idle_per_s * sent.took_s
    if sent.other:
        raise CouldNotRun(f"{sent.other} of {sent.ok + sent.other} replies were not full pages.")
    return used / sent.ok


async def _bare(lab: session.Session, readers: list[int], tokens: list[dict[str, str]]) -> float:
    """Fill the bare app's keys with the same pages, read them from it, and return its cost per read."""
    client = lab.redis()
    for reader, token in zip(readers, tokens):
        page = await lab.get_json(PATH.format(reader), token)
        for row in page.get("data", ()):
            await client.zadd(f"bare:home:{reader}", {row["id"]: int(row["id"]) >> 22})
            await client.set(f"bare:tweet:{row['id']}", orjson.dumps(row))
    await client.aclose()
    listen = f"127.{lab.settings.range}.120.1:8000"
    env = os.environ | {"BARE_LISTEN": listen, "BARE_REDIS": f"redis://{lab.settings.stores.redis}",
                        "BARE_SECRET": lab.jwt_secret}
    app = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.bare_app", cwd=home.ROOT, env=env)
    try:
        urls = [f"http://{listen}" + PATH.format(u) for u in readers]
        for _ in range(50):
            await asyncio.sleep(0.2)
            if (await drive.get_at_rate(urls[:1], tokens[:1], 5, 0.2)).ok:
                break
        await _warm(urls, tokens)

        async def app_cpu() -> float:
            return sampler.process_cpu_ns(app.pid) / 1e9

        return await _cost(app_cpu, urls, tokens)
    finally:
        app.terminate()
        await asyncio.wait_for(app.wait(), 10)
