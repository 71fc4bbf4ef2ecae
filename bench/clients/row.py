"""The row `client_methods_ignored`: every method of both clients, on a lab that the row starts."""

from __future__ import annotations

import asyncio

from bench.clients import try_methods
from tweetlab.lab import session
from tweetlab.terminal import Screen


async def ignored() -> float:
    """Return how many methods ended otherwise than their table says; print each."""
    screen = Screen()
    async with session.opened(screen, "small") as lab:
        wrong = await asyncio.to_thread(try_methods.ignored, lab.base_url)
    for line in wrong:
        screen.say(line)
    return float(len(wrong))
