"""Fan-out on write at full width: authors with 10,000 followers, every timeline live, complete and full, one Redis.

Timed from the publication of the first event to Kafka until the worker's timestamp after the last chunk of
the last event. Then a sample of timelines is read back, and only the share of ids that are found counts.
"""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from system import ports
from system.kernel import events, ids
from system.kernel.errors import CouldNotRun
from tweetlab.lab import session
from tweetlab.run import effect_log_reader, seeding
from tweetlab.terminal import Screen

FOLLOWERS, AUTHORS, TWEETS_EACH, FULL = 10_000, 3, 40, 800
SAMPLE = 300

@dataclass(frozen=True)
class Figures:
    """`deliveries_per_s`: verified deliveries per second.

    `zadd_per_s`: of redis-benchmark, same run. `found`: share verified.
    """

    deliveries_per_s: float
    zadd_per_s: float
    found: float

    @property
    def vs_zadd(self) -> float:
        """Deliveries per second ÷ redis-benchmark's pipelined ZADD."""
        return self.deliveries_per_s / self.zadd_per_s


_figures: list[Figures] = []


async def measured() -> Figures:
    """Measure once per process; both rows of the bench use the same run."""
    if not _figures:
        _figures.append(await _measure())
    return _figures[0]


async def _measure() -> Figures:
    screen = Screen()
    async with session.opened(screen, "small") as lab:
        await seeding.empty(lab)
        await _population(lab)
        zadd = _redis_benchmark(lab.settings.stores.redis)
        screen.say(f"redis-benchmark ZADD: {zadd:,.0f}/s")
        tweets = await _publish_and_wait(lab, screen)
        share = await _read_back(lab, tweets)
        last_ns, first_ns = tweets.last_ns, tweets.first_ns
        rate = share * FOLLOWERS * len(tweets.entries) / ((last_ns - first_ns) / 1e9)
        screen.say(f"{rate:,.0f} deliveries/s, {share:.4f} of a sample found")
        return Figures(rate, zadd, share)


async def _population(lab: session.Session) -> None:
    """Write authors 1..3, followers 11..10,010 with complete, full timelines, and the authors' follower lists."""
    import numpy as np

    followers = np.arange(11, 11 + FOLLOWERS, dtype=np.int64)
    authors = np.repeat(np.arange(1, AUTHORS + 1), FOLLOWERS)
    await seeding.write_users(lab, 11 + FOLLOWERS, np.tile(followers, AUTHORS), authors)
    yesterday_ms = int(time.time() * 1e3) - 86_400_000
    full = [ports.Entry(ids.compose(yesterday_ms + n, 0, 0), 20_000 + n % 50) for n in range(FULL)]
    floor = full[0].id
    for start in range(0, FOLLOWERS, 100):
        await asyncio.gather(*(_build(lab, ports.Kind.HOME, int(f), full, floor) for f in followers[start:start + 100]))
    members = [ports.Entry(int(f), 0) for f in followers]
    for author in range(1, AUTHORS + 1):
        await _build(lab, ports.Kind.FOLLOWERS, author, members, 0)


async def _build(lab: session.Session, kind: ports.Kind, owner: int, entries: list[ports.Entry], floor: int) -> None:
    """Make one list complete, as a rebuild does. Raises CouldNotRun if it is not complete afterwards."""
    cache = lab.ports.timelines
    token = await cache.begin(kind, owner)
    if token is None or not await cache.complete(kind, owner, token, entries, floor):
        raise CouldNotRun(f"The list {kind}:{owner} could not be made complete.")


@dataclass(frozen=True)
class _Sent:
    entries: tuple[ports.Entry, ...]
    first_ns: int
    last_ns: int


async def _publish_and_wait(lab: session.Session, screen: Screen) -> _Sent:
    now_ms = int(time.time() * 1e3)
    tweets = [events.Tweet(ids.compose(now_ms, 1000, n), 1 + n % AUTHORS, f"wide {n}", now_ms, ids.compose(now_ms, 1000, n))
              for n in range(AUTHORS * TWEETS_EACH)]
    await lab.ports.tweets.upsert(tweets)
    warm = tweets[:AUTHORS]
    await lab.ports.log.publish([events.new_tweet(t) for t in warm])
    await _stamps(lab.effects_dir, {str(t.id) for t in warm})
    first_ns = time.monotonic_ns()
    await lab.ports.log.publish([events.new_tweet(t) for t in tweets[AUTHORS:]])
    stamps = await _stamps(lab.effects_dir, {str(t.id) for t in tweets[AUTHORS:]})
    screen.say(f"{len(stamps)} events of {FOLLOWERS:,} followers fanned out")
    return _Sent(tuple(ports.Entry(t.id, t.author_id) for t in tweets[AUTHORS:]), first_ns, max(stamps.values()))


async def _stamps(directory: Path, wanted: set[str], within_s: float = 120.0) -> dict[str, int]:
    """Return the fan-out timestamp of each event in `wanted`.

    Raises CouldNotRun if one is missing after `within_s`.
    """
    deadline = time.monotonic() + within_s
    while True:
        table = effect_log_reader.read(directory)
        if len(table):
            rows = table[(table["group"] == "fanout") & table["event"].isin(wanted)]
            if set(rows["event"]) == wanted:
                return {str(e): int(at) for e, at in zip(rows["event"], rows["at_ns"])}
        if time.monotonic() > deadline:
            raise CouldNotRun(f"Fan-out did not process all {len(wanted)} events within {within_s:.0f} s; "
                              "see `tweetlab logs fanout-1`.")
        await asyncio.sleep(0.2)


async def _read_back(lab: session.Session, sent: _Sent) -> float:
    """Return the share of (tweet, follower) pairs of a seeded sample that are in the follower's timeline."""
    draw = random.Random(7)
    sample = draw.sample(range(11, 11 + FOLLOWERS), SAMPLE)
    pages = await lab.ports.timelines.pages(ports.Kind.HOME, sample, None, len(sent.entries) + 50)
    wanted = {e.id for e in sent.entries}
    hits = sum(len(wanted & {e.id for e in pages[u].entries}) for u in sample if u in pages)
    return hits / (len(wanted) * len(sample))


def _redis_benchmark(address: str) -> float:
    host, _, port = address.rpartition(":")
    command = ["redis-benchmark", "-h", host, "-p", port, "-P", "64", "-n", "600000", "-r", "10000", "-q",
               "ZADD", "b:__rand_int__", "__rand_int__", "m__rand_int__"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    rates = re.findall(r"([\d.]+) requests per second", done.stdout.replace("\r", "\n"))
    if not rates:
        raise CouldNotRun(f"redis-benchmark printed no rate: {done.stdout[-200:]!r}")
    return float(rates[-1])
