"""The two probes that accompany every load, simulated: they are load too, and they fill caches.

The real driver polls followers' home pages for fresh tweets and requests HAProxy's null route at a constant
rate (these constants are copied from `tweetlab/load/generator/probes.py`, a higher layer). Without them the
twin would simulate a tenth fewer home reads than the real run has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sim.engine import Engine
from sim.jobs import Context, Job
from sim.program import Step
from sim.resources import Wait
from sim.state import World
from sim.streams import NS, mixed, ns, uniform

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

    def __init__(self, engine: Engine, world: World, read: tuple[Step, ...]) -> None:
        self.engine = engine
        self.world = world
        self.read = read
        self.rows: list[ProbeRow] = []
        self._credit, self._at_s = 1.0, 0.0

    def acknowledged(self, ctx: Context) -> None:
        """Poll some followers of the author of an acknowledged tweet, within the budget of pairs."""
        now_s = self.engine.env.now / NS
        self._credit = min(self._credit + (now_s - self._at_s) * PAIRS_PER_S, PAIRS_PER_S * SAVED_S)
        self._at_s = now_s
        followers = self.world.followers_of(ctx.user)
        count = min(MOST_A_POST, int(self._credit), len(followers))
        self._credit -= count
        key = mixed(ctx.key, 1 << 32)
        for number, place in enumerate(sample(key, len(followers), count)):
            self.engine.env.process(self._pair(ctx.tweet, followers[place], mixed(key, count + number)))

    def _pair(self, tweet: int, follower: int, key: int) -> Wait:
        """Poll the home page of one follower until it shows the tweet, or for `GIVE_UP_S`."""
        env = self.engine.env
        acked_ns = before_ns = env.now
        pause_ns, polls = ns(FIRST_PAUSE_S), 0
        while True:
            ctx = Context(-1, "home", follower, 0, env.now, mixed(key, polls))
            status = yield env.process(self.engine.run(Job(ctx, ctx.key), self.read))
            if status == 0 and tweet in ctx.page:
                self.rows.append(ProbeRow(tweet, follower, env.now / NS, (env.now - before_ns) / NS))
                return
            if env.now + pause_ns - acked_ns > ns(GIVE_UP_S):
                self.rows.append(ProbeRow(tweet, follower, -1.0, 0.0))
                return
            if status == 0:
                before_ns = ctx.due_ns
            yield env.timeout(pause_ns)
            pause_ns, polls = min(2 * pause_ns, ns(LONGEST_PAUSE_S)), polls + 1


def sample(key: int, many: int, count: int) -> list[int]:
    """Return `count` different numbers below `many`, each set equally likely (Floyd's algorithm)."""
    chosen: list[int] = []
    for number, most in enumerate(range(many - count, many)):
        place = int(uniform(key, number) * (most + 1))
        chosen.append(most if place in chosen else place)
    return chosen


def request_null(engine: Engine, steps: tuple[Step, ...], until_s: float, key: int, ended: Callable[[Context], None]) -> Wait:
    """Request the null route at a constant rate until `until_s`; `ended(ctx)` is called for each response."""
    number = 0
    while number / NULL_PER_S < until_s:
        ctx = Context(number, "null", 0, 0, engine.env.now, mixed(key, number))
        engine.env.process(_null(engine, steps, ctx, ended))
        number += 1
        yield engine.env.timeout(ns(1.0 / NULL_PER_S))


def _null(engine: Engine, steps: tuple[Step, ...], ctx: Context, ended: Callable[[Context], None]) -> Wait:
    status = yield engine.env.process(engine.run(Job(ctx, ctx.key), steps))
    ctx.done_ns, ctx.status = engine.env.now, status or 200
    ended(ctx)
