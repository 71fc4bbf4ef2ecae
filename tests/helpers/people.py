"""Users that reach the lab in this range through its public load balancer, by plain HTTP only."""

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

CANARY = "canary-7f3a-of-a-private-object"  # part of objects that only their owner and approved followers may read

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

RANGE = int(os.environ.get("TWEETLAB_RANGE", "1"))

GATEWAY = f"http://{Plan(RANGE).host('haproxy', 1)}:8080"

LEAKS: list[str] = []
"""Responses that leaked the canary to an unauthorized user; checked again after the last test."""

_numbers = itertools.count(time.time_ns() // 1_000 % 10**9)


@dataclass
class Person:
    """A user that signed up.

    `form`: response of the token endpoint. `may_know`: the user is authorized to read the canary.
    """

    id: int
    username: str
    form: dict[str, Any]
    http: requests.Session = field(default_factory=requests.Session)
    may_know: bool = False

    @property
    def token(self) -> str:
        return str(self.form["access_token"])

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send one request with this person's token (or with `headers`, if given)."""
        options.setdefault("headers", {"authorization": f"Bearer {self.token}"})
        answer = self.http.request(method, GATEWAY + path, timeout=10, allow_redirects=False, **options)
        if CANARY in answer.text and not self.may_know:
            LEAKS.append(f"{method} {path} as {self.username}: {answer.status_code}")
        return answer

    def post(self, text: str, **more: Any) -> str:
        """Post; return the tweet's id."""
        answer = self.ask("POST", "/2/tweets", json={"text": text, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["data"]["id"])

    def upload_picture(self) -> str:
        """Upload a picture; return its media id."""
        body = {"media_type": "image/png", "total_bytes": len(PNG), "sha256": hashlib.sha256(PNG).hexdigest()}
        started = self.ask("POST", "/2/media/upload/initialize", json=body).json()["data"]
        put = requests.put(started["upload_url"], data=PNG, headers=started["upload_headers"], timeout=10)
        assert put.status_code == 200, put.text
        done = self.ask("POST", f"/2/media/upload/{started['id']}/finalize")
        assert done.status_code == 200, done.text
        return str(started["id"])


def sign_up(prefix: str = "p") -> Person:
    """Sign up a new user and get a token."""
    name = f"{prefix}{next(_numbers)}"[:15]
    made = requests.post(f"{GATEWAY}/2/users", json={"username": name, "name": name, "password": PASSWORD}, timeout=10)
    assert made.status_code == 201, made.text
    form = {"grant_type": "password", "username": name, "password": PASSWORD}
    token = requests.post(f"{GATEWAY}/2/oauth2/token", data=form, timeout=10)
    assert token.status_code == 200, token.text
    return Person(int(made.json()["data"]["id"]), name, token.json())


def until(check: Callable[[], Any], patience_s: float = 10.0) -> Any:
    """Return the result of `check` as soon as it is truthy; fail after `patience_s`."""
    deadline_s = time.monotonic() + patience_s
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < deadline_s, f"{check} stayed false for {patience_s} s"
        time.sleep(0.1)


@dataclass
class PrivateObjects:
    """A protected `owner` with a private tweet and picture, and other users.

    `friend`: an approved follower. `former`: approved, then removed. `stranger`: never requested to follow.
    """

    owner: Person
    friend: Person
    former: Person
    stranger: Person
    tweet: str
    picture: str

    def outsiders(self) -> dict[str, dict[str, str]]:
        """Return the request headers of each principal that is not authorized, by name."""
        return {
            "former": bearer(self.former.token), "stranger": bearer(self.stranger.token), "nobody": {},
            "forged": bearer(self.owner.token[:-4] + "AAAA"),
        }


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
