"""Canaries in a protected account: data that only its approved followers may see.

They are planted through the public API before and after a load; then users who must not see them request
them.
"""

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
from scenarios.world import pictures

TIMEOUT_S = 15.0   # per request: becoming protected waits until every older cached view has expired
SETTLE_S = 10.0    # longest wait until the approved follower sees the canary at home and in search
PAUSE_S = 0.5
TRIES = 4          # attempts: an inconclusive answer (429, 5xx) is retried
PASSWORD = "canary-password"
# Capitals are rare in responses, so that 6 kB are scanned in 1.5 us, not in 6 to 9.
LETTERS = "BCDFGHJKLMNPQRSVWX"
LETTER_COUNT = 24
HOME = "/2/users/{me}/timelines/reverse_chronological"
OK, FORBIDDEN, NOT_FOUND = 200, 403, 404


async def watch(base_url: str, token: Callable[[int], str]) -> Canary:
    """Plant canaries, request them as a stranger, a removed and an approved follower; return the result.

    Raises aiohttp.ClientError where they cannot be planted.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        return await _Check(session, base_url, token).run()


async def plant(base_url: str, token: Callable[[int], str], askers: Sequence[int], words: str) -> str:
    """Post a unique word, next to `words`, as a new protected user; return the word.

    `askers` send follow requests to that user, which are never approved, so no response to another user may
    contain the word. Raises aiohttp.ClientError.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        return await _Check(session, base_url, token).plant_word(askers, words)


@dataclass(frozen=True)
class Probe:
    """One request by which a canary could leak.

    `path`: `{me}` stands for the requesting user. `expected`: the status for users who must not see it; where
    that is 200, the page must lack all `secrets`. `secrets`: ids and words. `visible_to`: the user who must
    be shown the first secret, so that its absence elsewhere proves something; 0 for nobody.
    """

    path: str
    expected: int
    secrets: tuple[str, ...]
    visible_to: int

    def at(self, user: int) -> str:
        """Return the path for a request by `user`."""
        return self.path.replace("{me}", str(user))

    def leak(self, status: int, body: Any) -> str:
        """Return what is wrong with a response to a user who must not see it; "" if nothing is."""
        if status != self.expected:
            return f"{status} in place of {self.expected}"
        leaked = [secret for secret in self.secrets if holds(body, secret)]
        return f"{status} with {', '.join(leaked)}" if leaked else ""


@dataclass(frozen=True)
class Planted:
    """The planted users and data.

    The owner is protected; the friend is public, approved, and followed by the owner. `removed`: a follower
    who was approved, and removed before requesting. `post`: the owner's, with the picture `attached`, liked
    by both. `liked`: a post of the friend that the owner likes. `raw`: a picture that was never uploaded.
    `finalised`: one in no tweet.
    """

    owner: int
    friend: int
    stranger: int
    removed: int
    post: str
    liked: str
    raw: str
    finalised: str
    attached: str

    def probes(self, word: str) -> list[Probe]:
        """Return the probes of what only approved followers may see, and of what only the owner may."""
        o, f, post, picture = str(self.owner), str(self.friend), self.post, self.attached
        own = (post, word, picture)
        rows = [
            (f"/2/tweets/{post}", NOT_FOUND, own), (f"/2/tweets?ids={post}", OK, own), (f"/2/users/{o}/tweets", FORBIDDEN, own),
            (f"/2/tweets/search/recent?query={word}", OK, own), (HOME, OK, own),
            (f"/2/users/{f}/liked_tweets", OK, own), (f"/2/users/{o}/liked_tweets", FORBIDDEN, (self.liked, *own)),
            (f"/2/tweets/{post}/liking_users", NOT_FOUND, (o, f)), (f"/2/tweets/{self.liked}/liking_users", OK, (o,)),
            (f"/2/users/{o}/followers", FORBIDDEN, (f,)), (f"/2/users/{o}/following", FORBIDDEN, (f,)),
            (f"/2/media/{picture}", NOT_FOUND, (picture,)),
        ]
        shared = [Probe(path, expected, held, self.friend) for path, expected, held in rows]
        return [*shared, *self.owner_only(), Probe(f"/2/users/{o}/follow_requests", FORBIDDEN, (str(self.stranger),), self.owner)]

    def owner_only(self) -> list[Probe]:
        """Return the probes of pictures in no tweet, which even approved followers must not see."""
        return [Probe(f"/2/media/{self.finalised}", NOT_FOUND, (self.finalised,), self.owner), self.never_uploaded()]

    def never_uploaded(self) -> Probe:
        """Return the probe of the picture that was never uploaded, which even its owner cannot read."""
        return Probe(f"/2/media/{self.raw}", NOT_FOUND, (self.raw,), 0)


class _Check:
    def __init__(self, session: aiohttp.ClientSession, base_url: str, token: Callable[[int], str]) -> None:
        self._session, self._base_url, self._token = session, base_url, token
        self._word = f"canary{secrets.token_hex(8)}"
        self._picture = pictures.draw(secrets.randbits(64), secrets.randbelow(len(pictures.TYPES)))
        self._upload_urls: dict[str, str] = {}
        self._scanned, self._leaks, self._unanswered = 0, list[str](), list[str]()
        self._timing = ""  # `server-timing` of the last response

    async def run(self) -> Canary:
        planted = await self._plant_all()
        probes = planted.probes(self._word)
        pending = [(probe, probe.visible_to) for probe in probes if probe.visible_to]
        pending += [(probe, planted.removed) for probe in probes if probe.path == HOME]
        visible = await self._all_visible(pending)
        await self._request("DELETE", f"/2/users/{planted.owner}/followers/{planted.removed}", planted.owner, {})
        for role, user, probed in (
                ("a stranger", planted.stranger, probes), ("a removed follower", planted.removed, probes),
                ("a follower", planted.friend, planted.owner_only()),
                ("its owner", planted.owner, [planted.never_uploaded()])):
            for probe in probed:
                await self._probe_as(probe, user, role)
        readable = await self._probe_bytes(planted)
        return Canary(self._scanned, tuple(self._leaks), visible and readable, tuple(self._unanswered))

    async def plant_word(self, askers: Sequence[int], words: str) -> str:
        """Post a unique word as a new protected user with pending requests of `askers`; return the word."""
        self._word = "".join(secrets.choice(LETTERS) for _ in range(LETTER_COUNT))
        owner = await self._sign_up("c")
        await self._request("PUT", "/2/users/me", owner, {"protected": True})
        for user in askers:
            await self._follow(user, owner)
        await self._request("POST", "/2/tweets", owner, {"text": f"{self._word} {words}"})
        return self._word

    # ---- planting ------------------------------------------------------------------------------------

    async def _plant_all(self) -> Planted:
        owner, friend, stranger, removed = [await self._sign_up(name) for name in ("o", "f", "s", "g")]
        await self._request("PUT", "/2/users/me", owner, {"protected": True})
        for user in (friend, stranger, removed):
            await self._follow(user, owner)
        for user in (friend, removed):
            await self._request("POST", f"/2/users/{owner}/follow_requests/{user}", owner, {})
        await self._follow(owner, friend)
        raw, finalised, attached = [await self._upload(owner, finalise) for finalise in (False, True, True)]
        post = await self._request("POST", "/2/tweets", owner, {"text": self._word, "media": {"media_ids": [attached]}})
        other = await self._request("POST", "/2/tweets", friend, {"text": "to be liked"})
        for user, tweet in ((owner, post), (friend, post), (owner, other)):
            await self._request("POST", f"/2/users/{user}/likes", user, {"tweet_id": tweet["data"]["id"]})
        return Planted(owner, friend, stranger, removed, post["data"]["id"], other["data"]["id"], raw, finalised, attached)

    async def _follow(self, user: int, target: int) -> None:
        await self._request("POST", f"/2/users/{user}/following", user, {"target_user_id": str(target)})

    async def _upload(self, owner: int, finalise: bool) -> str:
        data = self._picture.data
        request = {"media_type": self._picture.media_type, "total_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        upload = (await self._request("POST", "/2/media/upload/initialize", owner, request))["data"]
        picture = str(upload["id"])
        self._upload_urls[picture] = upload["upload_url"].partition("?")[0]
        if finalise:
            status, _ = await self._call("PUT", upload["upload_url"], 0, data, upload["upload_headers"])
            if status != OK:
                raise aiohttp.ClientError(f"the signed PUT of a picture answered {status}")
            await self._request("POST", f"/2/media/upload/{picture}/finalize", owner, {})
        return picture

    async def _sign_up(self, name: str) -> int:
        request = {"username": f"{name}{secrets.token_hex(6)}", "password": PASSWORD}
        return int((await self._request("POST", "/2/users", 0, request))["data"]["id"])

    async def _request(self, method: str, path: str, user: int, body: dict[str, Any]) -> Any:
        """Send a request that must succeed; return its JSON body. Raises aiohttp.ClientError on failure."""
        status, content = await self._call(method, self._base_url + path, user, json.dumps(body).encode())
        if status >= 400:
            raise aiohttp.ClientError(f"{method} {path} answered {status}")
        return json.loads(content)

    # ---- probing -------------------------------------------------------------------------------------

    async def _all_visible(self, pending: list[tuple[Probe, int]]) -> bool:
        """Return whether each probe shows its canary to its user within SETTLE_S."""
        for _ in range(int(SETTLE_S / PAUSE_S)):
            pending = [(probe, user) for probe, user in pending if not await self._is_visible(probe, user)]
            if not pending:
                return True
            await asyncio.sleep(PAUSE_S)
        return False

    async def _is_visible(self, probe: Probe, user: int) -> bool:
        status, body = await self._get(probe.at(user), user)
        return status == OK and holds(body, probe.secrets[0])

    async def _probe_as(self, probe: Probe, user: int, role: str) -> None:
        """Send a probe as a user who must not see the canary, and record a leak."""
        path = probe.at(user)
        for _ in range(TRIES):
            status, body = await self._get(path, user)
            if status < 500 and status != 429:
                break
            await asyncio.sleep(PAUSE_S)
        else:
            self._unanswered.append(f"GET {path}: {status}")
            return
        self._record(f"GET {path} by {role}", probe.leak(status, body) or backends_named(self._timing))

    async def _probe_bytes(self, planted: Planted) -> bool:
        """Request the bytes without a valid signature from edge and storage.

        Return whether a valid signature shows them.
        """
        _, body = await self._get(f"/2/media/{planted.attached}", planted.friend)
        link = str(body.get("data", {}).get("url", ""))
        path, _, query = link.partition("?")
        if not query:
            return False
        status, content = await self._call("GET", link)  # from here on the edge's cache is warm
        number = planted.attached.partition("_")[2]
        ends, _, signature = query.partition("&s=")
        forged = [path, f"{path}?{ends}&s={signature[::-1]}", link.replace("?e=", "?e=1")]
        forged += [link.replace(number, other.partition("_")[2]) for other in (planted.raw, planted.finalised)]
        for url in (*forged, *self._upload_urls.values()):
            denied, content_denied = await self._call("GET", url)
            wrong = denied < 400 or content in content_denied
            self._record(f"GET {url} without a valid signature", str(denied) if wrong else "")
        self._record(f"GET {path} with a valid signature", pictures.LEAKED if pictures.canaries_in(content) else "")
        return status == OK and pictures.look(content) == pictures.look(self._picture.data)

    def _record(self, request: str, problem: str) -> None:
        self._scanned += 1
        if problem:
            self._leaks.append(f"{request}: {problem}")

    async def _get(self, path: str, user: int) -> tuple[int, Any]:
        status, content = await self._call("GET", self._base_url + path, user)
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        return status, body if isinstance(body, dict) else {"data": content.decode(errors="replace")}

    async def _call(self, method: str, url: str, user: int = 0, body: bytes = b"",
                    headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Send one request; return (status, body).

        `headers` replace those of the API. Raises aiohttp.ClientError.
        """
        if headers is None:
            headers = {"authorization": f"Bearer {self._token(user)}"} if user else {}
            headers |= {"content-type": "application/json"} if body else {}
        async with self._session.request(method, yarl.URL(url, encoded=True), headers=headers, data=body or None) as response:
            self._timing = response.headers.get("server-timing", "")
            return response.status, await response.read()


def backends_named(timing: str) -> str:
    """Return what a `server-timing` header reveals beyond the gateway: the backends that were queried.

    The backends queried reveal which data exists.
    """
    inside = sorted({part.partition(";")[0].strip() for part in timing.split(",")} - {"", "gateway"})
    return f"`server-timing` names {', '.join(inside)}" if inside else ""


def holds(body: Any, secret: str) -> bool:
    """Return whether a body contains a secret: an id as a whole value, a word anywhere.

    Only `data` and `includes` count: `errors` repeat the id of the request.
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
