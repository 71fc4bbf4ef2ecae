"""Fills the caches before a load through the public API: every reader of the tape reads his home page once.

For populations beyond what seeding warms by itself (`measure: {warm_caches: true}`). With few requests at once: the
rebuilds of a cold start are work that the run would otherwise measure in its first half minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import aiohttp

from scenarios import workload
from tweetlab.load.generator import tokens

AT_ONCE = 8  # below the rebuilds that one timelines process allows at once (16 by default): nobody is refused
PATIENCE_S = 30.0  # 2,000 readers take 5 to 15 s on two cores; of more, the keenest are warmed
TRIES = 5


@dataclass(frozen=True)
class Warmed:
    """`read`: readers whose home page was answered. `left_out`: those whose was not, or for whom no time was left."""

    read: int
    left_out: int


def readers(tape: workload.Tape) -> list[int]:
    """Return who reads a home page in `tape`, those who read most first."""
    home = tape.user[tape.route == tape.routes.index("home")].tolist()
    counts: dict[int, int] = {}
    for user in home:
        counts[user] = counts.get(user, 0) + 1
    return sorted(counts, key=lambda user: -counts[user])


async def warm(base_url: str, jwt_secret: str, users: Iterable[int], patience_s: float = PATIENCE_S) -> Warmed:
    """Read the home page of each of `users` once, in their order, for at most `patience_s`. Raises nothing for what fails."""
    signed, queue = tokens.Tokens(jwt_secret), list(users)[::-1]
    asked, read = len(queue), 0

    async def work(session: aiohttp.ClientSession) -> None:
        nonlocal read
        while queue:
            user = queue.pop()
            path = f"{base_url}/2/users/{user}/timelines/reverse_chronological?max_results=20"
            answered = await _read(session, path, {"authorization": f"Bearer {signed.token(user)}"})
            read += answered  # added after the wait: `read += await` would count on an old value

    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        workers = [asyncio.create_task(work(session)) for _ in range(AT_ONCE)]
        _, late = await asyncio.wait(workers, timeout=patience_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return Warmed(read, asked - read)


async def _read(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> bool:
    """Return whether the page was answered within TRIES tries."""
    for attempt in range(TRIES):
        try:
            async with session.get(url, headers=headers) as answer:
                await answer.read()
                if answer.status == 200:
                    return True
        except (aiohttp.ClientError, TimeoutError):
            pass  # counted by the caller as left out, unless a later try is answered
        await asyncio.sleep(0.1 * 2**attempt)
    return False
