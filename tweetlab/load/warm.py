"""Fills the caches before a load through the public API: the home page of every reader of the tape is read once.

For populations too large for the warming that is part of seeding (`measure: {warm_caches: true}`). Few
requests run at the same time. Without this step, the first half minute of a run would measure the rebuilds of
a cold start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp

from scenarios import workload
from tweetlab.load.generator import tokens

CONCURRENCY = 8  # below the concurrent rebuilds of one timelines process (16 by default): no request is refused
PATIENCE_S = 30.0  # 2,000 readers take 5 to 15 s on two cores; if time runs out, the most active are warm
TRIES = 5


@dataclass(frozen=True)
class Warmed:
    """`read`: readers whose home page was returned.

    `left_out`: readers with an error, or without time left.
    """

    read: int
    left_out: int


def readers(tape: workload.Tape) -> list[int]:
    """Return the users that read a home page in `tape`, the most frequent readers first."""
    home = tape.user[tape.route == tape.routes.index("home")].tolist()
    counts: dict[int, int] = {}
    for user in home:
        counts[user] = counts.get(user, 0) + 1
    return sorted(counts, key=lambda user: -counts[user])


async def warm(base_url: str, jwt_secret: str, users: Iterable[int], patience_s: float = PATIENCE_S) -> Warmed:
    """Read the home page of each of `users` once, in order, for at most `patience_s`.

    Failures raise nothing.
    """
    signed, queue = tokens.Tokens(jwt_secret), list(users)[::-1]
    wanted, read = len(queue), 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal read
        while queue:
            user = queue.pop()
            path = f"{base_url}/2/users/{user}/timelines/reverse_chronological?max_results=20"
            succeeded = await _read(session, path, {"authorization": f"Bearer {signed.token(user)}"})
            read += succeeded  # a separate line: `read += await` would add to a stale value

    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        workers = [asyncio.create_task(work(session)) for _ in range(CONCURRENCY)]
        _, late = await asyncio.wait(workers, timeout=patience_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return Warmed(read, wanted - read)


async def _read(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> bool:
    """Return whether the page was returned within TRIES tries."""
    for attempt in range(TRIES):
        try:
            async with session.get(url, headers=headers) as reply:
                await reply.read()
                if reply.status == 200:
                    return True
        except (aiohttp.ClientError, TimeoutError):
            pass  # counted by the caller as left out, unless a later try succeeds
        await asyncio.sleep(0.1 * 2**attempt)
    return False
