"""Search through the public API: latency with a million indexed tweets, and the time until a new tweet is found.

`p95_ms`: open loop, 20 searches per second, latency from the intended start, all operators, next pages
included. The million tweets are seeded into Cassandra and Elasticsearch, and remain for the next time.
`visible_p99_s`: posts at 20/s; every fifth is searched by a word that no other tweet has, from its
acknowledgement until a search returns it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import orjson

from scenarios import loader
from scenarios.world import seeded_tweets
from system.kernel.errors import CouldNotRun
from tweetlab.lab import session
from tweetlab.run import seeding
from tweetlab.terminal import Screen

MILLION = ["population.users=2000", "population.follows.mean=10", "population.history=500", "population.cache=cold"]
RATE_PER_S, WARM_S, FOR_S = 20.0, 30.0, 60.0
POSTS_PER_S, EVERY, POLL_S, PATIENCE_S = 20.0, 5, 0.1, 15.0
READERS = 200
PATH = "/2/tweets/search/recent?tweet.fields=author_id,created_at&query="

Draw = Callable[[random.Random], str]


def _word(dice: random.Random) -> str:
    """Return a word of the seeded vocabulary, Zipf with exponent 0.8, like the scenarios' readers."""
    return str(dice.choices(seeded_tweets.vocabulary(), _WEIGHTS)[0])


_WEIGHTS = [1 / rank ** 0.8 for rank in range(1, seeded_tweets.WORDS + 1)]
MIX: tuple[tuple[float, Draw], ...] = (  # share -> query; every operator, alone and combined
    (0.35, _word),
    (0.15, lambda dice: f"{_word(dice)} {_word(dice)}"),
    (0.10, lambda dice: f'"{_word(dice)} {_word(dice)}"'),
    (0.15, lambda dice: f"#{seeded_tweets.vocabulary()[dice.randrange(seeded_tweets.TAGS)]}"),
    (0.10, lambda dice: f"from:{seeding.username(dice.randint(1, 2000))}"),
    (0.10, lambda dice: f"{_word(dice)} -{_word(dice)}"),
    (0.05, lambda dice: f"{_word(dice)} #{seeded_tweets.vocabulary()[dice.randrange(seeded_tweets.TAGS)]}"
                       f" -from:{seeding.username(1)}"),
)
NEXT_PAGES, NEWEST_FIRST = 0.10, 0.10  # shares of requests for a next page, and for `recency`


@dataclass
class _Tally:
    """The results. `latencies_s`: of ok replies, from the intended start."""

    latencies_s: list[float] = field(default_factory=list)
    kinds: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0
    hits: int = 0
    tokens: list[tuple[str, str]] = field(default_factory=list)


async def _documents(lab: session.Session) -> int:
    """Return the number of documents in the index, by Elasticsearch's count."""
    adapters: Any = lab.ports  # services do not count documents, so the port does not declare it
    count, _ = await adapters.index.count()
    return int(count)


async def p95_ms() -> float:
    """Return the p95 of a search in ms.

    Raises CouldNotRun if too many searches failed, or found too few tweets.
    """
    screen = Screen()
    scenario = loader.load("first_run", MILLION)
    async with session.opened(screen, "small", scenario.policies) as lab:
        await seeding.ensure(lab, scenario)
        count = await _documents(lab)
        if count < 1_000_000:
            raise CouldNotRun(f"The index has {count:,} documents; the row requires a million.")
        headers = [{"authorization": f"Bearer {lab.token(user)}"} for user in range(1, READERS + 1)]
        await _searches(lab.base_url, headers, WARM_S, seed=1)
        tally = await _searches(lab.base_url, headers, FOR_S, seed=2)
    sent = len(tally.latencies_s) + tally.failed
    if tally.failed > 0.005 * sent:
        raise CouldNotRun(f"{tally.failed} of {sent} searches did not return 200.")
    if tally.hits < 3 * sent:
        raise CouldNotRun(f"{sent} searches found only {tally.hits} tweets: too few for an index of a million.")
    for kind, latencies_s in sorted(tally.kinds.items()):
        screen.say(f"{kind:<10} n {len(latencies_s):4d}  p50 {_percentile(latencies_s, 50) * 1e3:6.1f} ms"
                   f"  p95 {_percentile(latencies_s, 95) * 1e3:6.1f} ms")
    return _percentile(tally.latencies_s, 95) * 1e3


async def _searches(base_url: str, headers: list[dict[str, str]], for_s: float, seed: int) -> _Tally:
    """Send searches at RATE_PER_S, Poisson, regardless of replies."""
    dice, tally = random.Random(seed), _Tally()
    async with _web() as web:
        async def search(due_s: float) -> None:
            kind, path = _request(dice, tally)
            try:
                async with web.get(base_url + path, headers=headers[dice.randrange(len(headers))]) as reply:
                    body = orjson.loads(await reply.read())
            except (aiohttp.ClientError, TimeoutError, ValueError):
                tally.failed += 1
                return
            if reply.status != 200:
                tally.failed += 1
                return
            tally.latencies_s.append(time.monotonic() - due_s)
            tally.kinds.setdefault(kind, []).append(time.monotonic() - due_s)
            tally.hits += len(body.get("data", ()))
            if kind != "next" and "next_token" in body["meta"]:
                tally.tokens.append((path, body["meta"]["next_token"]))

        await _open_loop(search, dice, RATE_PER_S, for_s)
    return tally


def _request(dice: random.Random, tally: _Tally) -> tuple[str, str]:
    """Return (kind, path) of the next search."""
    if tally.tokens and dice.random() < NEXT_PAGES:
        path, token = tally.tokens.pop(dice.randrange(len(tally.tokens)))
        return "next", f"{path}&next_token={token}"
    number = dice.choices(range(len(MIX)), [share for share, _ in MIX])[0]
    query = MIX[number][1](dice)
    newest = dice.random() < NEWEST_FIRST
    kind = "recency" if newest else ("word", "words", "phrase", "tag", "from", "without", "mixed")[number]
    return kind, PATH + quote_plus(query) + ("&sort_order=recency" if newest else "")


async def visible_p99_s() -> float:
    """Return the p99 of the time from the acknowledgement of a post until a search returns it, in s."""
    screen = Screen()
    scenario = loader.load("first_run")
    async with session.opened(screen, "small", scenario.policies) as lab:
        await seeding.ensure(lab, scenario)
        headers = [{"authorization": f"Bearer {lab.token(user)}"} for user in range(1, READERS + 1)]
        await _posts(lab.base_url, headers, 10.0, seed=3)  # warm-up
        found_s = await _posts(lab.base_url, headers, FOR_S, seed=4)
    screen.say(f"{len(found_s)} tweets were found: p50 {_percentile(found_s, 50):.2f} s, worst {max(found_s):.2f} s")
    return _percentile(found_s, 99)


async def _posts(base_url: str, headers: list[dict[str, str]], for_s: float, seed: int) -> list[float]:
    """Post at POSTS_PER_S and search every EVERY-th; return the seconds until each was found.

    Raises CouldNotRun.
    """
    dice, found_s, problems, mark = random.Random(seed), list[float](), list[str](), f"{time.time_ns():x}"
    async with _web() as web:
        async def post(due_s: float) -> None:
            number, caller = dice.getrandbits(40), headers[dice.randrange(len(headers))]
            word, searched = f"{mark}x{number:x}", dice.randrange(EVERY) == 0
            text = f"{word} {_word(dice)} {_word(dice)} #{_word(dice)}"
            try:
                async with web.post(base_url + "/2/tweets", headers=caller, json={"text": text}) as reply:
                    if reply.status != 201:
                        problems.append(f"a post returned {reply.status}")
                        return
                    await reply.read()
                if searched:
                    found_s.append(await _until_found(web, base_url + PATH + word, caller))
            except (aiohttp.ClientError, TimeoutError) as problem:
                problems.append(f"{type(problem).__name__} {problem}")

        await _open_loop(post, dice, POSTS_PER_S, for_s)
    if problems or not found_s:
        raise CouldNotRun(f"{len(problems)} posts or searches failed: {problems[0] if problems else 'none was searched'}.")
    return found_s


async def _until_found(web: aiohttp.ClientSession, url: str, caller: dict[str, str]) -> float:
    """Return the seconds from now until the search returns a tweet; polled every POLL_S, so up to that much too high."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + PATIENCE_S:
        async with web.get(url, headers=caller) as reply:
            body = orjson.loads(await reply.read())
            if reply.status == 200 and body.get("data"):
                return time.monotonic() - began_s
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"a tweet was not found within {PATIENCE_S:.0f} s of its acknowledgement")


def _web() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=256, keepalive_timeout=60)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))


async def _open_loop(send: Callable[[float], Awaitable[None]], dice: random.Random, rate_per_s: float, for_s: float) -> None:
    """Start `send(intended start)` at Poisson arrivals; return when all have ended."""
    began_s = time.monotonic()
    due_s, tasks = began_s, set()
    while (due_s := due_s + dice.expovariate(rate_per_s)) < began_s + for_s:
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        task = asyncio.ensure_future(send(due_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


def _percentile(values: list[float], percent: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
