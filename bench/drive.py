"""A minimal open-loop client for rows that measure CPU, not latency: requests at a constant rate from one session."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp


@dataclass(frozen=True)
class Drive:
    """The result: `ok` replies with status 200 and at least `full` bytes, `other` the rest, in `took_s` seconds.

    `latencies_s`: of the ok replies, from the intended start of each.
    """

    ok: int
    other: int
    took_s: float
    latencies_s: tuple[float, ...] = ()


async def get_at_rate(urls: Sequence[str], headers: Sequence[dict[str, str]], rate_per_s: float, for_s: float,
                      full: int = 0, seed: int = 1) -> Drive:
    """GET a random one of `urls` (with the headers of the same index) `rate_per_s` times per second, regardless of replies."""
    draw, counts, latencies_s = random.Random(seed), {True: 0, False: 0}, []
    connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
        async def get(n: int, due: float) -> None:
            try:
                async with session.get(urls[n], headers=headers[n]) as reply:
                    body = await reply.read()
                    ok = reply.status == 200 and len(body) >= full
                    counts[ok] += 1
                    if ok:
                        latencies_s.append(time.monotonic() - due)
            except (aiohttp.ClientError, TimeoutError):
                counts[False] += 1

        began, tasks = time.monotonic(), set()
        for k in range(int(rate_per_s * for_s)):
            await asyncio.sleep(max(0.0, began + k / rate_per_s - time.monotonic()))
            task = asyncio.create_task(get(draw.randrange(len(urls)), began + k / rate_per_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        return Drive(counts[True], counts[False], time.monotonic() - began, tuple(latencies_s))
