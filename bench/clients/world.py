"""The users and tweets that the calls of `methods` need, made through the public API."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

PASSWORD = "a-password-for-the-clients"
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class World:
    """`gateway`: base URL. `token`: of the calling user. `names`: what a name in braces stands for."""

    gateway: str
    token: str
    names: Mapping[str, str]

    def fill(self, value: Any) -> Any:
        """Return an argument with every name in braces replaced."""
        if isinstance(value, str):
            for name, text in self.names.items():
                value = value.replace(f"{{{name}}}", text)
            return value
        if isinstance(value, Mapping):
            return {name: self.fill(part) for name, part in value.items()}
        return [self.fill(part) for part in value] if isinstance(value, list | tuple) else value


def make(gateway: str) -> World:
    """Sign up two users, and post. Raises requests.RequestException if the lab does not answer."""
    me, other = _sign_up(gateway), _sign_up(gateway)
    further, revocable = _token(gateway, me["username"]), _token(gateway, me["username"])
    tweet = _post(gateway, other["token"])
    names = {"me": me["id"], "other": other["id"], "name": other["username"], "tweet": tweet, "own": _post(gateway, me["token"]),
             "spare": _post(gateway, me["token"]), "refresh": further["refresh_token"], "revocable": revocable["access_token"]}
    return World(gateway, me["token"], names)


def _sign_up(gateway: str) -> dict[str, str]:
    username = f"c{secrets.token_hex(6)}"
    body = {"username": username, "password": PASSWORD}
    made = _checked(requests.post(f"{gateway}/2/users", json=body, timeout=TIMEOUT_S))
    return {"id": made["data"]["id"], "username": username, "token": _token(gateway, username)["access_token"]}


def _token(gateway: str, username: str) -> dict[str, str]:
    form = {"grant_type": "password", "username": username, "password": PASSWORD}
    return dict(_checked(requests.post(f"{gateway}/2/oauth2/token", data=form, timeout=TIMEOUT_S)))


def _post(gateway: str, token: str) -> str:
    made = requests.post(f"{gateway}/2/tweets", json={"text": "hello"}, headers={"authorization": f"Bearer {token}"},
                         timeout=TIMEOUT_S)
    return str(_checked(made)["data"]["id"])


def _checked(reply: requests.Response) -> Any:
    reply.raise_for_status()
    return reply.json()
