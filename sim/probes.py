"""The two probes that accompany every load, simulated: they are load too, and they fill caches.

The real driver polls followers' home pages for fresh tweets and requests HAProxy's null route at a constant
rate (these constants are copied from `tweetlab/load/generator/probes.py`, a higher layer). Without them the
twin would simulate a tenth fewer home reads than the real run has.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from sim.engine import Engine
from sim.jobs import Context, Job, Linked
from sim.state import World
from sim.stations import call_after

PAIRS_PER_S = 6.0
SAVED_S = 2.0
MOST_A_POST = 12
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 0.25
GIVE_UP_S = 10.0
NULL_PER_S = 10.0


@dataclass
class ProbeRow:
    """One pair.

    `seen_s`: end of the first poll that showed the tweet, negative: never. `gap_s`: since the previous poll.
    """

    tweet: int
    follower: int
    seen_s: float
    gap_s: float


class Delivery:
    """Polls followers of fresh tweets. `read`: the program of a home read."""

    def __init__(self, engine: Engine, world: World, read: Linked, seed: int) -> None:
        self.engine = engine
        self.world = world
        self.read = read
        self.rows: list[ProbeRow] = []
        self._draw = random.Random(seed)
        self._credit, self._at_s = 1.0, 0.0

    def acknowledged(self, ctx: Context) -> None:
        """Poll some followers of the author of an acknowledged tweet, within the budget of pairs."""
        now = self.engine.env.now
        self._credit = min(self._credit + (now - self._at_s) * PAIRS_PER_S, PAIRS_PER_S * SAVED_S)
        self._at_s = now
        followers = self.world.followers_of(ctx.user)
        count = min(MOST_A_POST, int(self._credit), len(followers))
        for follower in self._draw.sample(followers, count):
            self._credit -= 1.0
            self._poll(ProbeRow(ctx.tweet, follower, -1.0, 0.0), now, now, FIRST_PAUSE_S)

    def _poll(self, row: ProbeRow, acked_s: float, before_s: float, pause_s: float) -> None:
        sent_s = self.engine.env.now
        ctx = Context(-1, "home", row.follower, 0, sent_s)

        def ended(_job: Job, status: int) -> None:
            now = self.engine.env.now
            if status == 0 and row.tweet in ctx.page:
                row.seen_s, row.gap_s = now, now - before_s
                self.rows.append(row)
            elif now + pause_s - acked_s > GIVE_UP_S:
                self.rows.append(row)
            else:
                since_s = sent_s if status == 0 else before_s
                following_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
                call_after(self.engine.env, pause_s, lambda _: self._poll(row, acked_s, since_s, following_s))

        self.engine.start(self.read, ctx, ended)


def request_null(engine: Engine, code: Linked, until_s: float, ended: Callable[[Context], None]) -> None:
    """Request the null route at a constant rate until `until_s`; `ended(ctx)` is called for each response."""

    def begin(event: object) -> None:
        number: int = event._value  # type: ignore[attr-defined]
        ctx = Context(number, "null", 0, 0, engine.env.now)
        if (number + 1) / NULL_PER_S < until_s:
            call_after(engine.env, 1.0 / NULL_PER_S, begin, number + 1)

        def done(_job: Job, status: int) -> None:
            ctx.done, ctx.status = engine.env.now, status or 200
            ended(ctx)

        engine.start(code, ctx, done)

    call_after(engine.env, 0.0, begin, 0)
