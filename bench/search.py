"""Search through the public API: how long one takes with a million tweets indexed, and how soon a tweet is found.

`p95_ms`: open loop, 20 searches a second, latency from the intended start, all operators, next pages too. The million stands
in Cassandra and Elasticsearch as seeding wrote it, and stays for the next time. `visible_p99_s`: posts at 20/s; every fifth is
looked for by a word that no other tweet has, from its acknowledgement until a search shows it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
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
POSTS_PER_S, EVERY, LOOK_S, PATIENCE_S = 20.0, 5, 0.1, 15.0
READERS = 200
PATH = "/2/tweets/search/recent?tweet.fields=author_id,created_at&query="

Draw = Callable[[random.Random], str]


def _word(dice: random.Random) -> str:
    """Return a word of the seeded language, popular ones more often: Zipf with exponent 0.8, as readers of the scenarios."""
    return str(dice.choices(seeded_tweets.vocabulary(), _WEIGHTS)[0])


_WEIGHTS = [1 / rank ** 0.8 for rank in range(1, seeded_tweets.WORDS + 1)]
MIX: tuple[tuple[float, Draw], ...] = (  # share -> query; every operator, alone and together
    (0.35, _word),
    (0.15, lambda dice: f"{_word(dice)} {_word(dice)}"),
    (0.10, lambda dice: f'"{_word(dice)} {_word(dice)}"'),
    (0.15, lambda dice: f"#{seeded_tweets.vocabulary()[dice.randrange(seeded_tweets.TAGS)]}"),
    (0.10, lambda dice: f"from:{seeding.username(dice.randint(1, 2000))}"),
    (0.10, lambda dice: f"{_word(dice)} -{_word(dice)}"),
    (0.05, lambda dice: f"{_word(dice)} #{seeded_tweets.vocabulary()[dice.randrange(seeded_tweets.TAGS)]}"
                       f" -from:{seeding.username(1)}"),
)
NEXT_PAGES, NEWEST_FIRST = 0.10, 0.10  # shares of the requests that go on from a page, and that ask for `recency`


@dataclass
class _Tally:
    """What came back. `latencies_s`: of good answers, from the intended start."""

    latencies_s: list[float] = field(default_factory=list)
    kinds: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0
    hits: int = 0
    tokens: list[tuple[str, str]] = field(default_factory=list)


async def _documents(lab: session.Session) -> int:
    """Return how many documents Elasticsearch itself counts in the index."""
    index = f"{lab.settings.stores.elasticsearch_urls[0]}/{lab.settings.namespace}-tweets"
    async with _web() as web:
        async with web.post(f"{index}/_refresh") as answer:
            answer.raise_for_status()
        async with web.get(f"{index}/_count") as answer:
            answer.raise_for_status()
            return int((await answer.json())["count"])


async def p95_ms() -> float:
    """Return the p95 of a search in ms. Raises CouldNotRun where answers failed, or found too little to be a search."""
    screen = Screen()
    scenario = loader.load("first_run", MILLION)
    async with session.opened(screen, "small", scenario.policies) as lab:
        await seeding.ensure(lab, scenario)
        held = await _documents(lab)
        if held < 1_000_000:
            raise CouldNotRun(f"The index holds {held:,} documents; the row is about a million.")
        headers = [{"authorization": f"Bearer {lab.token(user)}"} for user in range(1, READERS + 1)]
        await _searches(lab.base_url, headers, WARM_S, seed=1)
        told = await _searches(lab.base_url, headers, FOR_S, seed=2)
    asked = len(told.latencies_s) + told.failed
    if told.failed > 0.005 * asked:
        raise CouldNotRun(f"{told.failed} of {asked} searches were not answered with 200.")
    if told.hits < 3 * asked:
        raise CouldNotRun(f"{asked} searches found {told.hits} tweets: that is no index of a million.")
    for kind, latencies_s in sorted(told.kinds.items()):
        screen.say(f"{kind:<10} n {len(latencies_s):4d}  p50 {_percentile(latencies_s, 50) * 1e3:6.1f} ms"
                   f"  p95 {_percentile(latencies_s, 95) * 1e3:6.1f} ms")
    return _percentile(told.latencies_s, 95) * 1e3


async def _searches(base_url: str, headers: list[dict[str, str]], for_s: float, seed: int) -> _Tally:
    """Send searches at RATE_PER_S, Poisson, whatever the answers do."""
    dice, told = random.Random(seed), _Tally()
    async with _web() as web:
        async def one(due_s: float) -> None:
            kind, path = _request(dice, told)
            try:
                async with web.get(base_url + path, headers=headers[dice.randrange(len(headers))]) as answer:
                    body = orjson.loads(await answer.read())
            except (aiohttp.ClientError, TimeoutError, ValueError):
                told.failed += 1
                return
            if answer.status != 200:
                told.failed += 1
                return
            told.latencies_s.append(time.monotonic() - due_s)
            told.kinds.setdefault(kind, []).append(time.monotonic() - due_s)
            told.hits += len(body["data"])
            if kind != "next" and "next_token" in body["meta"]:
                told.tokens.append((path, body["meta"]["next_token"]))

        await _open_loop(one, dice, RATE_PER_S, for_s)
    return told


def _request(dice: random.Random, told: _Tally) -> tuple[str, str]:
    """Return (kind, path) of the next search."""
    if told.tokens and dice.random() < NEXT_PAGES:
        path, token = told.tokens.pop(dice.randrange(len(told.tokens)))
        return "next", f"{path}&next_token={token}"
    number = dice.choices(range(len(MIX)), [share for share, _ in MIX])[0]
    query = MIX[number][1](dice)
    newest = dice.random() < NEWEST_FIRST
    kind = "recency" if newest else ("word", "words", "phrase", "tag", "from", "without", "mixed")[number]
    return kind, PATH + quote_plus(query) + ("&sort_order=recency" if newest else "")


async def visible_p99_s() -> float:
    """Return the p99 of the time from the acknowledgement of a post until a search shows it, in s."""
    screen = Screen()
    scenario = loader.load("first_run")
    async with session.opened(screen, "small", scenario.policies) as lab:
        await seeding.ensure(lab, scenario)
        headers = [{"authorization": f"Bearer {lab.token(user)}"} for user in range(1, READERS + 1)]
        await _posts(lab.base_url, headers, 10.0, seed=3)  # warms what the first posts would pay for
        found_s = await _posts(lab.base_url, headers, FOR_S, seed=4)
    screen.say(f"{len(found_s)} tweets were found: p50 {_percentile(found_s, 50):.2f} s, worst {max(found_s):.2f} s")
    return _percentile(found_s, 99)


async def _posts(base_url: str, headers: list[dict[str, str]], for_s: float, seed: int) -> list[float]:
    """Post at POSTS_PER_S and look for every EVERY-th; return the seconds until each was found. Raises CouldNotRun."""
    dice, found_s, problems, mark = random.Random(seed), list[float](), list[str](), f"{time.time_ns():x}"
    async with _web() as web:
        async def one(due_s: float) -> None:
            number, caller = dice.getrandbits(40), headers[dice.randrange(len(headers))]
            word, look = f"{mark}x{number:x}", dice.randrange(EVERY) == 0
            text = f"{word} {_word(dice)} {_word(dice)} #{_word(dice)}"
            try:
                async with web.post(base_url + "/2/tweets", headers=caller, json={"text": text}) as answer:
                    if answer.status != 201:
                        problems.append(f"a post was answered {answer.status}")
                        return
                    await answer.read()
                if look:
                    found_s.append(await _until_found(web, base_url + PATH + word, caller))
            except (aiohttp.ClientError, TimeoutError) as problem:
                problems.append(f"{type(problem).__name__} {problem}")

        await _open_loop(one, dice, POSTS_PER_S, for_s)
    if problems or not found_s:
        raise CouldNotRun(f"{len(problems)} posts or searches failed: {problems[0] if problems else 'none was looked for'}.")
    return found_s


async def _until_found(web: aiohttp.ClientSession, url: str, caller: dict[str, str]) -> float:
    """Return the seconds from now until the search shows a tweet; it is asked every LOOK_S, so up to that much too many."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + PATIENCE_S:
        async with web.get(url, headers=caller) as answer:
            body = orjson.loads(await answer.read())
            if answer.status == 200 and body["data"]:
                return time.monotonic() - began_s
        await asyncio.sleep(LOOK_S)
    raise TimeoutError(f"a tweet was not found within {PATIENCE_S:.0f} s of its acknowledgement")


def _web() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=256, keepalive_timeout=60)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30))


async def _open_loop(one: Callable[[float], Awaitable[None]], dice: random.Random, rate_per_s: float, for_s: float) -> None:
    """Start `one(intended start)` at Poisson arrivals; return when all have ended."""
    began_s = time.monotonic()
    due_s, tasks = began_s, set()
    while (due_s := due_s + dice.expovariate(rate_per_s)) < began_s + for_s:
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        task = asyncio.ensure_future(one(due_s))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)


def _percentile(values: list[float], percent: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
