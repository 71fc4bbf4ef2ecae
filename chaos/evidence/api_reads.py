"""The final reads through the public API: tweets by id, home and profile pages of the whole run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

import aiohttp

from chaos.evidence.history import HOME, PROFILE, TOP_ID, Read, covered_low

CONCURRENCY = 16
TRIES = 4          # a read that is shed or times out is retried: after the run, waiting costs nothing
PAUSE_S = 0.5
TIMEOUT_S = 10.0
PAGE = 100         # tweets per page, the maximum of the API
MOST_PAGES = 30    # per pagination: more than the 800 entries of a cached list and a tail
READERS = 64       # users that take turns in lookups: a single one would hit the rate limit
SESSION = "final"


@dataclass
class Api:
    """A reader of the public API. `unread`: number of paginations that ended without a response."""

    session: aiohttp.ClientSession
    base_url: str
    token: Callable[[int], str]
    may_read: Mapping[int, int] = field(default_factory=dict)
    """Tweet of a protected user -> a user who may read it; all other tweets are read by users in turn."""
    unread: int = 0
    _turns: Iterator[int] = field(default_factory=lambda: itertools.cycle(range(1, READERS + 1)))
    _semaphore: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONCURRENCY))

    @classmethod
    @asynccontextmanager
    async def opened(cls, base_url: str, token: Callable[[int], str], may_read: Mapping[int, int]) -> AsyncIterator[Api]:
        """Open a reader; it is closed when the block ends."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            yield cls(session, base_url, token, may_read)

    async def lookups(self, tweet_ids: Sequence[int]) -> dict[int, bool | None]:
        """Return for each id whether GET shows the tweet; False for 404, None for no conclusive answer."""
        shown = await self._all(tweet_ids, self._lookup)
        return dict(zip(tweet_ids, shown, strict=True))

    async def like_counts(self, tweet_ids: Sequence[int]) -> dict[int, int | None]:
        """Return the like count of each tweet, None where there was no answer; without deleted tweets."""
        counts = await self._all(tweet_ids, self._like_count)
        return {tweet_id: count for tweet_id, (shown, count) in zip(tweet_ids, counts, strict=True) if shown}

    async def homes(self, users: Sequence[int], down_to: int) -> list[Read]:
        """Read the users' home timelines, page by page, down to the id `down_to`."""
        walks = await self._all(users, lambda user: self._walk(HOME, user, down_to))
        return [page for walk in walks for page in walk]

    async def profiles(self, users: Sequence[int], down_to: int) -> list[Read]:
        """Read each user's own tweets as that user, page by page, down to the id `down_to`."""
        walks = await self._all(users, lambda user: self._walk(PROFILE, user, down_to))
        return [page for walk in walks for page in walk]

    async def _all(self, keys: Iterable[int], read: Callable[[int], Awaitable[Any]]) -> list[Any]:
        async def limited(key: int) -> Any:
            async with self._semaphore:
                return await read(key)

        return list(await asyncio.gather(*(limited(key) for key in keys)))

    def _reader(self, tweet_id: int) -> int:
        return self.may_read.get(tweet_id) or next(self._turns)

    async def _lookup(self, tweet_id: int) -> bool | None:
        status, _, _ = await self._get(f"/2/tweets/{tweet_id}", {}, self._reader(tweet_id))
        return True if status == 200 else False if status == 404 else None

    async def _like_count(self, tweet_id: int) -> tuple[bool, int | None]:
        status, body, _ = await self._get(f"/2/tweets/{tweet_id}", {"tweet.fields": "public_metrics"}, self._reader(tweet_id))
        count = body["data"]["public_metrics"]["like_count"] if status == 200 else None
        return status != 404, count

    async def _walk(self, route: str, user: int, down_to: int) -> list[Read]:
        path = f"/2/users/{user}/timelines/reverse_chronological" if route == HOME else f"/2/users/{user}/tweets"
        pages: list[Read] = []
        params = {"max_results": str(PAGE)}
        high = TOP_ID
        for _ in range(MOST_PAGES):
            sent_ns = monotonic_ns()
            status, body, scanned = await self._get(path, params, user)
            if status != 200:
                self.unread += 1
                return pages
            data, cursor = body.get("data") or [], str(body.get("meta", {}).get("next_token", ""))
            shown = [int(tweet["id"]) for tweet in data]
            low = covered_low(scanned, cursor, shown, high)
            pages.append(Read(route, user, user, SESSION, sent_ns, monotonic_ns(), shown,
                              [int(tweet["author_id"]) for tweet in data], low, high, high != TOP_ID, -1))
            if not cursor or low <= down_to:
                return pages
            params["pagination_token"], high = cursor, low
        return pages

    async def _get(self, path: str, params: dict[str, str], user: int) -> tuple[int, dict[str, Any], int]:
        """Return (status, JSON body, lowest id scanned) of a GET.

        Status 0 where no attempt got an answer.
        """
        status, body, scanned = 0, {}, 0
        headers = {"authorization": f"Bearer {self.token(user)}"}
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE_S)
            try:
                async with self.session.get(self.base_url + path, params=params, headers=headers) as response:
                    status, scanned = response.status, int(response.headers.get("x-tweetlab-scanned", "0"))
                    body = await response.json(content_type=None)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                status = 0
            if status in (200, 404):
                break
        return status, body, scanned
