"""A canary in a protected account: planted through the public API before and after a load, looked for where it must not be."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp

from chaos.evidence import Canary

TIMEOUT_S = 15.0   # of one request: becoming protected waits until every older view of it has expired
SETTLE_S = 10.0    # longest wait until the approved follower finds the canary in his home timeline and in search
PASSWORD = "canary-password"
LETTERS = "BCDFGHJKLMNPQRSVWX"  # capitals are rare in answers, so 6 kB are looked through in 1.5 us, not in 6 to 9
LETTER_COUNT = 24


async def watch(base_url: str, token: Callable[[int], str]) -> Canary:
    """Plant a canary, ask for it as a stranger and as an approved follower; return what was seen. Raises aiohttp.ClientError."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        return await _Watch(session, base_url, token).run()


async def plant(base_url: str, token: Callable[[int], str], askers: Sequence[int], words: str) -> str:
    """Let a new protected user post a word that nobody else has, beside `words`; return it. Raises aiohttp.ClientError.

    `askers` ask to follow him and are never approved, so no answer to anybody but him may hold the word.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        return await _Watch(session, base_url, token).planted(askers, words)


class _Watch:
    def __init__(self, session: aiohttp.ClientSession, base_url: str, token: Callable[[int], str]) -> None:
        self._session, self._base_url, self._token = session, base_url, token
        self._word = f"canary{secrets.token_hex(8)}"

    async def run(self) -> Canary:
        owner, friend, stranger = [await self._sign_up(name) for name in ("o", "f", "s")]
        await self._ask("PUT", "/2/users/me", owner, {"protected": True})
        for user in (friend, stranger):
            await self._ask("POST", f"/2/users/{user}/following", user, {"target_user_id": str(owner)})
        await self._ask("POST", f"/2/users/{owner}/follow_requests/{friend}", owner, {})
        posted = await self._ask("POST", "/2/tweets", owner, {"text": self._word})
        tweet = posted["data"]["id"]
        await self._ask("POST", f"/2/users/{owner}/likes", owner, {"tweet_id": tweet})
        ways = [
            f"/2/tweets/{tweet}", f"/2/tweets?ids={tweet}", f"/2/users/{owner}/tweets", f"/2/users/{owner}/liked_tweets",
            f"/2/tweets/{tweet}/liking_users", f"/2/tweets/search/recent?query={self._word}", f"/2/users/{owner}/followers",
        ]
        seen = await self._seen_by(friend, ways)
        theirs = [*ways, f"/2/users/{stranger}/timelines/reverse_chronological"]
        leaks = tuple([path for path in theirs if await self._holds(path, stranger)])
        return Canary(len(theirs), leaks, seen)

    async def planted(self, askers: Sequence[int], words: str) -> str:
        """Plant it, and return the word."""
        self._word = "".join(secrets.choice(LETTERS) for _ in range(LETTER_COUNT))
        owner = await self._sign_up("c")
        await self._ask("PUT", "/2/users/me", owner, {"protected": True})
        for user in askers:
            await self._ask("POST", f"/2/users/{user}/following", user, {"target_user_id": str(owner)})
        await self._ask("POST", "/2/tweets", owner, {"text": f"{self._word} {words}"})
        return self._word

    async def _seen_by(self, friend: int, ways: list[str]) -> bool:
        """Return whether the follower finds it by id, in his home timeline and by search, within some seconds."""
        wanted = [ways[0], ways[5], f"/2/users/{friend}/timelines/reverse_chronological"]
        for _ in range(int(SETTLE_S / 0.5)):
            if all([await self._holds(path, friend) for path in wanted]):
                return True
            await asyncio.sleep(0.5)
        return False

    async def _holds(self, path: str, user: int) -> bool:
        headers = {"authorization": f"Bearer {self._token(user)}"}
        async with self._session.get(self._base_url + path, headers=headers) as answer:
            body = await answer.json(content_type=None)
        return answer.status == 200 and any(self._word in str(tweet.get("text", "")) for tweet in _tweets(body))

    async def _sign_up(self, name: str) -> int:
        wish = {"username": f"{name}{secrets.token_hex(6)}", "password": PASSWORD}
        return int((await self._ask("POST", "/2/users", 0, wish))["data"]["id"])

    async def _ask(self, method: str, path: str, user: int, body: dict[str, Any]) -> Any:
        headers = {"authorization": f"Bearer {self._token(user)}"} if user else {}
        async with self._session.request(method, self._base_url + path, headers=headers, json=body) as answer:
            answer.raise_for_status()
            return await answer.json(content_type=None)


def _tweets(body: Any) -> list[dict[str, Any]]:
    data = body.get("data") if isinstance(body, dict) else None
    return data if isinstance(data, list) else [data] if isinstance(data, dict) else []
