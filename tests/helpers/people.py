"""People who come through the public load balancer of the lab in this range, by plain HTTP and nothing else."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from system.platform.addresses import Plan

PASSWORD = "correct horse battery"

CANARY = "canary-7f3a-of-a-private-object"  # stands in what only its owner and his friends may read

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

RANGE = int(os.environ.get("TWEETLAB_RANGE", "1"))

GATEWAY = f"http://{Plan(RANGE).host('haproxy', 1)}:8080"

LEAKS: list[str] = []
"""Answers that carried the canary to somebody who may not know it: looked at once more when the last test is done."""

_numbers = itertools.count(time.time_ns() // 1_000 % 10**9)


@dataclass
class Person:
    """Someone who signed up. `form`: his token as the token endpoint answered it. `may_know`: the canary is no leak to him."""

    id: int
    username: str
    form: dict[str, Any]
    http: requests.Session = field(default_factory=requests.Session)
    may_know: bool = False

    @property
    def token(self) -> str:
        return str(self.form["access_token"])

    def ask(self, method: str, path: str, **given: Any) -> requests.Response:
        """Send one request with this person's token (or other headers, where `headers` is given)."""
        given.setdefault("headers", {"authorization": f"Bearer {self.token}"})
        answer = self.http.request(method, GATEWAY + path, timeout=10, allow_redirects=False, **given)
        if CANARY in answer.text and not self.may_know:
            LEAKS.append(f"{method} {path} as {self.username}: {answer.status_code}")
        return answer

    def says(self, text: str, **more: Any) -> str:
        """Post; return the tweet's id."""
        answer = self.ask("POST", "/2/tweets", json={"text": text, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["id"])

    def shows(self) -> str:
        """Upload a picture; return its media id."""
        wish = {"media_type": "image/png", "total_bytes": len(PNG), "sha256": hashlib.sha256(PNG).hexdigest()}
        started = self.ask("POST", "/2/media/upload/initialize", json=wish).json()["data"]
        put = requests.put(started["upload_url"], data=PNG, headers=started["upload_headers"], timeout=10)
        assert put.status_code == 200, put.text
        done = self.ask("POST", f"/2/media/upload/{started['id']}/finalize")
        assert done.status_code == 200, done.text
        return str(started["id"])


def arrive(prefix: str = "p") -> Person:
    """Sign up and take a token."""
    name = f"{prefix}{next(_numbers)}"[:15]
    made = requests.post(f"{GATEWAY}/2/users", json={"username": name, "name": name, "password": PASSWORD}, timeout=10)
    assert made.status_code == 201, made.text
    form = {"grant_type": "password", "username": name, "password": PASSWORD}
    token = requests.post(f"{GATEWAY}/2/oauth2/token", data=form, timeout=10)
    assert token.status_code == 200, token.text
    return Person(int(made.json()["data"]["id"]), name, token.json())


def until(what: Callable[[], Any], patience_s: float = 10.0) -> Any:
    """Return what `what` answers as soon as it is true; fail after `patience_s`."""
    deadline_s = time.monotonic() + patience_s
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"{what} stayed false for {patience_s} s"
        time.sleep(0.1)


@dataclass
class House:
    """Who lives here. `owner` is protected; `friend` was approved, `former` was and was removed; `stranger` never asked."""

    owner: Person
    friend: Person
    former: Person
    stranger: Person
    tweet: str
    picture: str

    def principals(self) -> dict[str, dict[str, str]]:
        """Return what each who is no friend sends as headers."""
        return {
            "former": bearer(self.former.token), "stranger": bearer(self.stranger.token), "nobody": {},
            "forged": bearer(self.owner.token[:-4] + "AAAA"),
        }


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
