"""What a user may be called, and what a password must be. Decides; reads no clock, no store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from system.kernel.errors import WrongInput

USERNAME = re.compile(r"[A-Za-z0-9_]{1,15}")  # Twitter's own rule
MIN_PASSWORD = 8     # characters; NIST SP 800-63B asks for at least 8
MAX_PASSWORD = 128   # characters; bounds the work of one hash
MAX_NAME = 50        # characters of a display name; Twitter's limit
DEFAULT_RESULTS = 100
MAX_RESULTS = 1_000  # users in one page of followers; Twitter's API v2
TOKEN_LIFE_S = 7_200  # seconds; Twitter's OAuth 2 access tokens live two hours
SCOPE = "tweet.read tweet.write users.read follows.read follows.write media.write offline.access"


@dataclass(frozen=True)
class SignUp:
    """A valid wish to sign up."""

    username: str
    name: str
    password: str


def sign_up(body: Any) -> SignUp:
    """Return the sign-up in a JSON body. Raises WrongInput naming field, value and bound."""
    if not isinstance(body, dict):
        raise WrongInput(f"The body is {type(body).__name__}; it must be a JSON object with `username` and `password`.")
    username = check_username(body.get("username"))
    name = body.get("name", username)
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise WrongInput(f"`name` is {str(name)[:60]!r}; it must be 1 to {MAX_NAME} printable characters.")
    return SignUp(username, name, check_password(body.get("password")))


def check_username(value: Any) -> str:
    """Return a user name that may be used. Raises WrongInput."""
    if not isinstance(value, str) or not USERNAME.fullmatch(value):
        raise WrongInput(f"`username` is {str(value)[:40]!r}; it must be 1 to 15 letters, digits or underscores.")
    return value


def check_password(value: Any) -> str:
    """Return a password that may be hashed. Raises WrongInput; the message never holds the password."""
    size = len(value) if isinstance(value, str) else 0
    if not MIN_PASSWORD <= size <= MAX_PASSWORD:
        raise WrongInput(f"`password` has {size} characters; it must have {MIN_PASSWORD} to {MAX_PASSWORD}.")
    return str(value)


def page_limit(text: str | None) -> int:
    """Return `max_results` of a page of users. Raises WrongInput."""
    if text is None:
        return DEFAULT_RESULTS
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_RESULTS):
        raise WrongInput(f"`max_results` is {text[:40]!r}; it must be a whole number from 1 to {MAX_RESULTS}.")
    return int(text)


def claims(user_id: int, now_s: int) -> dict[str, object]:
    """Return what an access token says. `now_s`: wall time, seconds since 1970."""
    return {"sub": str(user_id), "iat": now_s, "exp": now_s + TOKEN_LIFE_S, "scope": SCOPE}
