"""Canaries in a protected account: planted through the public API before and after a load, looked for where they must not be."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import yarl

from chaos.evidence.bundle import Canary

TIMEOUT_S = 15.0   # of one request: becoming protected waits until every older view of it has expired
SETTLE_S = 10.0    # longest wait until the approved follower finds the canary in his home timeline and in search
PAUSE_S = 0.5
TRIES = 4          # an answer that tells nothing (429, 5xx) is asked for again
PASSWORD = "canary-password"
LETTERS = "BCDFGHJKLMNPQRSVWX"  # capitals are rare in answers, so 6 kB are looked through in 1.5 us, not in 6 to 9
LETTER_COUNT = 24
SIGNATURE = b"\x89PNG\r\n\x1a\n"
HOME = "/2/users/{me}/timelines/reverse_chronological"
SHOWN, CLOSED, UNKNOWN = 200, 403, 404


async def watch(base_url: str, token: Callable[[int], str]) -> Canary:
    """Plant canaries, ask for them as a stranger, as a removed and as an approved follower; return what was seen.

    Raises aiohttp.ClientError.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        return await _Watch(session, base_url, token).run()


async def plant(base_url: str, token: Callable[[int], str], askers: Sequence[int], words: str) -> str:
    """Let a new protected user post a word that nobody else has, beside `words`; return it. Raises aiohttp.ClientError.

    `askers` ask to follow him and are never approved, so no answer to anybody but him may hold the word.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        return await _Watch(session, base_url, token).planted(askers, words)


@dataclass(frozen=True)
class Way:
    """One way to ask. `owed`: the status that is owed to whom it is not for; where that is 200, the page lacks all `secrets`.

    `secrets`: ids and words. `shown_to`: who is shown the first of them, so that its absence elsewhere proves
    something; 0: nobody.
    """

    path: str
    owed: int
    secrets: tuple[str, ...]
    shown_to: int

    def at(self, user: int) -> str:
        """Return the path as `user` asks for it."""
        return self.path.replace("{me}", str(user))

    def leak(self, status: int, body: Any) -> str:
        """Say what is wrong with an answer to somebody whom this is not for; "" where nothing is."""
        if status != self.owed:
            return f"{status} in place of {self.owed}"
        held = [secret for secret in self.secrets if holds(body, secret)]
        return f"{status} with {', '.join(held)}" if held else ""


@dataclass(frozen=True)
class Scene:
    """Who and what was planted. The owner is protected; the friend is public, approved, and followed by the owner.

    `gone`: was approved, and is removed before he asks. `post`: the owner's, with the picture `attached`,
    liked by both. `liked`: a post of the friend that the owner likes. `raw`: a picture that was never put.
    """

    owner: int
    friend: int
    stranger: int
    gone: int
    post: str
    liked: str
    raw: str
    finalised: str
    attached: str

    def ways(self, word: str) -> list[Way]:
        """Return all ways to what only his approved followers may see, and to what only he may."""
        o, f, post, picture = str(self.owner), str(self.friend), self.post, self.attached
        own = (post, word, picture)
        rows = [
            (f"/2/tweets/{post}", UNKNOWN, own), (f"/2/tweets?ids={post}", SHOWN, own), (f"/2/users/{o}/tweets", CLOSED, own),
            (f"/2/tweets/search/recent?query={word}", SHOWN, own), (HOME, SHOWN, own),
            (f"/2/users/{f}/liked_tweets", SHOWN, own), (f"/2/users/{o}/liked_tweets", CLOSED, (self.liked, *own)),
            (f"/2/tweets/{post}/liking_users", UNKNOWN, (o, f)), (f"/2/tweets/{self.liked}/liking_users", SHOWN, (o,)),
            (f"/2/users/{o}/followers", CLOSED, (f,)), (f"/2/users/{o}/following", CLOSED, (f,)),
            (f"/2/media/{picture}", UNKNOWN, (picture,)),
        ]
        shared = [Way(path, owed, held, self.friend) for path, owed, held in rows]
        return [*shared, *self.own(), Way(f"/2/users/{o}/follow_requests", CLOSED, (str(self.stranger),), self.owner)]

    def own(self) -> list[Way]:
        """Return the ways to pictures that are in no tweet: closed to friends, too."""
        return [Way(f"/2/media/{self.finalised}", UNKNOWN, (self.finalised,), self.owner), self.unfinished()]

    def unfinished(self) -> Way:
        """Return the way to the picture that was never put: closed to its owner, too."""
        return Way(f"/2/media/{self.raw}", UNKNOWN, (self.raw,), 0)


class _Watch:
    def __init__(self, session: aiohttp.ClientSession, base_url: str, token: Callable[[int], str]) -> None:
        self._session, self._base_url, self._token = session, base_url, token
        self._word = f"canary{secrets.token_hex(8)}"
        self._picture = SIGNATURE + secrets.token_bytes(64)
        self._places: dict[str, str] = {}
        self._scanned, self._leaks, self._unanswered = 0, list[str](), list[str]()
        self._timing = ""  # `server-timing` of the last answer

    async def run(self) -> Canary:
        scene = await self._planted()
        ways = scene.ways(self._word)
        wanted = [(way, way.shown_to) for way in ways if way.shown_to] + [(way, scene.gone) for way in ways if way.path == HOME]
        seen = await self._seen(wanted)
        await self._ask("DELETE", f"/2/users/{scene.owner}/followers/{scene.gone}", scene.owner, {})
        for who, user, closed in (("a stranger", scene.stranger, ways), ("a removed follower", scene.gone, ways),
                                  ("a follower", scene.friend, scene.own()), ("its owner", scene.owner, [scene.unfinished()])):
            for way in closed:
                await self._look(way, user, who)
        read = await self._look_at_bytes(scene)
        return Canary(self._scanned, tuple(self._leaks), seen and read, tuple(self._unanswered))

    async def planted(self, askers: Sequence[int], words: str) -> str:
        """Plant the word of a load, and return it."""
        self._word = "".join(secrets.choice(LETTERS) for _ in range(LETTER_COUNT))
        owner = await self._sign_up("c")
        await self._ask("PUT", "/2/users/me", owner, {"protected": True})
        for user in askers:
            await self._follow(user, owner)
        await self._ask("POST", "/2/tweets", owner, {"text": f"{self._word} {words}"})
        return self._word

    # ---- planting ------------------------------------------------------------------------------------

    async def _planted(self) -> Scene:
        owner, friend, stranger, gone = [await self._sign_up(name) for name in ("o", "f", "s", "g")]
        await self._ask("PUT", "/2/users/me", owner, {"protected": True})
        for user in (friend, stranger, gone):
            await self._follow(user, owner)
        for user in (friend, gone):
            await self._ask("POST", f"/2/users/{owner}/follow_requests/{user}", owner, {})
        await self._follow(owner, friend)
        raw, finalised, attached = [await self._upload(owner, finalise) for finalise in (False, True, True)]
        post = await self._ask("POST", "/2/tweets", owner, {"text": self._word, "media": {"media_ids": [attached]}})
        other = await self._ask("POST", "/2/tweets", friend, {"text": "to be liked"})
        for user, tweet in ((owner, post), (friend, post), (owner, other)):
            await self._ask("POST", f"/2/users/{user}/likes", user, {"tweet_id": tweet["data"]["id"]})
        return Scene(owner, friend, stranger, gone, post["data"]["id"], other["data"]["id"], raw, finalised, attached)

    async def _follow(self, user: int, target: int) -> None:
        await self._ask("POST", f"/2/users/{user}/following", user, {"target_user_id": str(target)})

    async def _upload(self, owner: int, finalise: bool) -> str:
        wish = {"media_type": "image/png", "total_bytes": len(self._picture), "sha256": hashlib.sha256(self._picture).hexdigest()}
        place = (await self._ask("POST", "/2/media/upload/initialize", owner, wish))["data"]
        picture = str(place["id"])
        self._places[picture] = place["upload_url"].partition("?")[0]
        if finalise:
            status, _ = await self._call("PUT", place["upload_url"], 0, self._picture, place["upload_headers"])
            if status != SHOWN:
                raise aiohttp.ClientError(f"the signed PUT of a picture answered {status}")
            await self._ask("POST", f"/2/media/upload/{picture}/finalize", owner, {})
        return picture

    async def _sign_up(self, name: str) -> int:
        wish = {"username": f"{name}{secrets.token_hex(6)}", "password": PASSWORD}
        return int((await self._ask("POST", "/2/users", 0, wish))["data"]["id"])

    async def _ask(self, method: str, path: str, user: int, body: dict[str, Any]) -> Any:
        """Return what a request that has to succeed answered. Raises aiohttp.ClientError where it did not."""
        status, told = await self._call(method, self._base_url + path, user, json.dumps(body).encode())
        if status >= 400:
            raise aiohttp.ClientError(f"{method} {path} answered {status}")
        return json.loads(told)

    # ---- looking -------------------------------------------------------------------------------------

    async def _seen(self, wanted: list[tuple[Way, int]]) -> bool:
        """Return whether everything shows to whom it is for, within some seconds."""
        for _ in range(int(SETTLE_S / PAUSE_S)):
            wanted = [(way, user) for way, user in wanted if not await self._shows(way, user)]
            if not wanted:
                return True
            await asyncio.sleep(PAUSE_S)
        return False

    async def _shows(self, way: Way, user: int) -> bool:
        status, body = await self._told(way.at(user), user)
        return status == SHOWN and holds(body, way.secrets[0])

    async def _look(self, way: Way, user: int, who: str) -> None:
        """Ask as somebody whom this is not for."""
        path = way.at(user)
        for _ in range(TRIES):
            status, body = await self._told(path, user)
            if status < 500 and status != 429:
                break
            await asyncio.sleep(PAUSE_S)
        else:
            self._unanswered.append(f"GET {path}: {status}")
            return
        self._note(f"GET {path} by {who}", way.leak(status, body) or told_by(self._timing))

    async def _look_at_bytes(self, scene: Scene) -> bool:
        """Ask edge and storage for the bytes without a right signature; return whether a right one shows them."""
        _, body = await self._told(f"/2/media/{scene.attached}", scene.friend)
        link = str(body.get("data", {}).get("url", ""))
        path, _, query = link.partition("?")
        if not query:
            return False
        status, told = await self._call("GET", link)  # from here on the edge's cache is warm
        number = scene.attached.partition("_")[2]
        ends, _, signature = query.partition("&s=")
        forged = [path, f"{path}?{ends}&s={signature[::-1]}", link.replace("?e=", "?e=1")]
        forged += [link.replace(number, other.partition("_")[2]) for other in (scene.raw, scene.finalised)]
        for url in (*forged, *self._places.values()):
            answered, bytes_ = await self._call("GET", url)
            wrong = answered < 400 or self._picture[len(SIGNATURE):] in bytes_
            self._note(f"GET {url} without a right signature", str(answered) if wrong else "")
        return status == SHOWN and told == self._picture

    def _note(self, asked: str, wrong: str) -> None:
        self._scanned += 1
        if wrong:
            self._leaks.append(f"{asked}: {wrong}")

    async def _told(self, path: str, user: int) -> tuple[int, Any]:
        status, told = await self._call("GET", self._base_url + path, user)
        try:
            body = json.loads(told)
        except ValueError:
            body = None
        return status, body if isinstance(body, dict) else {"data": told.decode(errors="replace")}

    async def _call(self, method: str, url: str, user: int = 0, body: bytes = b"",
                    headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Send one request; `headers` in place of those of the API. Returns (status, body). Raises aiohttp.ClientError."""
        if headers is None:
            headers = {"authorization": f"Bearer {self._token(user)}"} if user else {}
            headers |= {"content-type": "application/json"} if body else {}
        async with self._session.request(method, yarl.URL(url, encoded=True), headers=headers, data=body or None) as answer:
            self._timing = answer.headers.get("server-timing", "")
            return answer.status, await answer.read()


def told_by(timing: str) -> str:
    """Say what a `server-timing` tells beyond the time in the gateway: which stores were asked tells what they hold."""
    inside = sorted({part.partition(";")[0].strip() for part in timing.split(",")} - {"", "gateway"})
    return f"`server-timing` names {', '.join(inside)}" if inside else ""


def holds(body: Any, secret: str) -> bool:
    """Say whether what an answer shows holds an id as a whole value, or a word anywhere.

    Only `data` and `includes` count: `errors` repeat the id that was asked for.
    """
    shown = [body.get("data"), body.get("includes")]
    return any(secret == text if secret.partition("_")[0].isdecimal() else secret in text for text in _texts(shown))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
