"""The smoke journey: two new users sign up, follow, post, read, search, like, upload a picture and delete, by the public API.

A lab that fails it is not measured: otherwise a fast reply with an empty page would count as a good one.
The journey uses two users of its own and deletes what it posts.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from scenarios.world import pictures
from system.kernel.errors import CouldNotRun

PICTURE = pictures.draw(0, 0)
VISIBLE_S = 10.0  # Elasticsearch refreshes each second, Kafka and workers add less; 10 s is well above both


@dataclass(frozen=True)
class Step:
    """One step of the journey: its name, how long it took, and whether it succeeded."""

    name: str
    took_s: float
    ok: bool
    detail: str = ""


class Api:
    """A small client of the public API."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, token: str = "") -> None:
        self._session, self._base, self._token = session, base_url, token

    async def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send one request; return the JSON body, {} if empty.

        Raises CouldNotRun with status and body unless 2xx.
        """
        headers = {"authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            async with self._session.request(method, self._base + path, headers=headers, **options) as reply:
                text = await reply.text()
                if reply.status >= 300:
                    raise CouldNotRun(f"{method} {path} answered {reply.status}: {text[:300]}")
                return dict(await reply.json(content_type=None)) if text else {}
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise CouldNotRun(f"{method} {path} got no reply: {problem!r}") from None

    def as_user(self, token: str) -> Api:
        """Return the same client with a user's token."""
        return Api(self._session, self._base, token)


FOLLOWER_READS = "follower reads it"


async def journey(base_url: str, last: str = "") -> list[Step]:
    """Run the journey; return its steps.

    It ends with the first step that fails, or with the step `last`.
    """
    steps: list[Step] = []
    timeout = aiohttp.ClientTimeout(total=15)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        walk = _Journey(Api(session, base_url), session)
        for name, step in walk.steps():
            began = time.monotonic()
            try:
                await step()
            except (CouldNotRun, LookupError, AssertionError, TypeError, ValueError, OSError, aiohttp.ClientError) as problem:
                # OSError includes a timeout of the signed PUT. ValueError, TypeError: a reply that breaks the API's contract.
                steps.append(Step(name, time.monotonic() - began, False, str(problem) or repr(problem)))
                break
            steps.append(Step(name, time.monotonic() - began, True))
            if name == last:
                break
    return steps


class _Journey:
    def __init__(self, api: Api, session: aiohttp.ClientSession) -> None:
        self.anonymous = api
        self.session = session
        self.word = "smoke" + uuid.uuid4().hex[:9]
        self.ids: dict[str, str] = {}
        self.apis: dict[str, Api] = {}
        self.tweet = ""

    def steps(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        return [
            ("sign up two users", self.sign_up), ("follow", self.follow), ("post", self.post),
            ("author reads own timeline", self.author_reads), (FOLLOWER_READS, self.follower_reads),
            ("search finds it", self.search_finds), ("a like is counted", self.like),
            ("picture goes up and comes back", self.picture), ("delete", self.delete),
            ("follower no longer reads it", self.follower_no_longer_reads),
            ("a bad token is refused", self.refused),
        ]

    async def sign_up(self) -> None:
        for role in ("author", "reader"):
            name = f"{role[0]}{uuid.uuid4().hex[:12]}"
            made = await self.anonymous.call("POST", "/2/users", json={"username": name, "name": role, "password": self.word})
            form = {"grant_type": "password", "username": name, "password": self.word}
            token = await self.anonymous.call("POST", "/2/oauth2/token", data=form)
            self.ids[role], self.apis[role] = made["data"]["id"], self.anonymous.as_user(token["access_token"])

    async def follow(self) -> None:
        body = {"target_user_id": self.ids["author"]}
        await self.apis["reader"].call("POST", f"/2/users/{self.ids['reader']}/following", json=body)

    async def post(self) -> None:
        made = await self.apis["author"].call("POST", "/2/tweets", json={"text": f"a first tweet {self.word}"})
        self.tweet = made["data"]["id"]

    async def _home(self, role: str) -> list[str]:
        page = await self.apis[role].call("GET", f"/2/users/{self.ids[role]}/timelines/reverse_chronological?max_results=20")
        return [row["id"] for row in page.get("data", [])]

    async def author_reads(self) -> None:
        page = await self._home("author")
        assert self.tweet in page, f"the author's own home lacks {self.tweet}: {page}"

    async def follower_reads(self) -> None:
        await self._until(lambda: self._home("reader"), True, "the follower's home")

    async def follower_no_longer_reads(self) -> None:
        await self._until(lambda: self._home("reader"), False, "the follower's home")

    async def search_finds(self) -> None:
        async def hits() -> list[str]:
            page = await self.apis["reader"].call("GET", f"/2/tweets/search/recent?query={self.word}")
            return [row["id"] for row in page.get("data", [])]

        await self._until(hits, True, "search")

    async def like(self) -> None:
        reader = self.apis["reader"]
        await reader.call("POST", f"/2/users/{self.ids['reader']}/likes", json={"tweet_id": self.tweet})

        async def counted() -> list[str]:
            shown = (await reader.call("GET", f"/2/tweets/{self.tweet}?tweet.fields=public_metrics"))["data"]
            return [self.tweet] if shown["public_metrics"]["like_count"] == 1 else []

        await self._until(counted, True, "the count of likes")

    async def _until(self, read: Callable[[], Awaitable[list[str]]], present: bool, what: str) -> None:
        deadline = time.monotonic() + VISIBLE_S
        page = await read()
        while (self.tweet in page) is not present and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            page = await read()
        assert (self.tweet in page) is present, f"{what} {'lacks' if present else 'still shows'} {self.tweet} after {VISIBLE_S} s"

    async def picture(self) -> None:
        author, digest = self.apis["author"], hashlib.sha256(PICTURE.data).hexdigest()
        body = {"media_type": PICTURE.media_type, "total_bytes": len(PICTURE.data), "sha256": digest}
        made = (await author.call("POST", "/2/media/upload/initialize", json=body))["data"]
        async with self.session.put(made["upload_url"], data=PICTURE.data, headers=made["upload_headers"]) as reply:
            assert reply.status == 200, f"the signed PUT answered {reply.status}: {(await reply.text())[:200]}"
        await author.call("POST", f"/2/media/upload/{made['id']}/finalize")
        url = (await author.call("GET", f"/2/media/{made['id']}"))["data"]["url"]
        for wanted in ("MISS", "HIT"):
            async with self.session.get(url) as reply:
                content, cache = await reply.read(), reply.headers.get("x-cache")
            same = pictures.look(content) == pictures.look(PICTURE.data)
            assert same, f"the edge answered {reply.status} with another picture: {content[:80]!r}"
            assert not pictures.canaries_in(content), "the edge returned a picture with its metadata"
            assert cache == wanted, f"the edge's x-cache is {cache}; it must be {wanted}"
        await author.call("DELETE", f"/2/media/{made['id']}")

    async def delete(self) -> None:
        await self.apis["author"].call("DELETE", f"/2/tweets/{self.tweet}")

    async def refused(self) -> None:
        try:
            await self.anonymous.as_user("not.a.token").call("GET", "/2/users/me")
        except CouldNotRun as refusal:
            assert "answered 401" in str(refusal), str(refusal)
            return
        raise AssertionError("an invalid token was accepted; it must get 401")
