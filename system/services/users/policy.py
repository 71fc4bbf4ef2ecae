"""Rules for usernames, display names and passwords. Pure: reads no clock, no store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from system.kernel.errors import WrongInput
from system.kernel.http.asgi import only

USERNAME = re.compile(r"[A-Za-z0-9_]{1,15}")  # Twitter's own rule
MIN_PASSWORD = 8     # characters; NIST SP 800-63B requires at least 8
MAX_PASSWORD = 128   # characters; bounds the cost of one hash
MAX_KEY = 128        # characters of an Idempotency-Key
MAX_NAME = 50        # characters of a display name; Twitter's limit
DEFAULT_RESULTS = 100
MAX_LISTED = 100     # users in one look-up; Twitter's API v2
MAX_RESULTS = 1_000  # users in one page of followers; Twitter's API v2


@dataclass(frozen=True)
class SignUp:
    """A valid sign-up request."""

    username: str
    name: str
    password: str


@dataclass(frozen=True)
class Profile:
    """A valid profile change; None keeps the current value."""

    name: str | None
    protected: bool | None


def sign_up(body: Any) -> SignUp:
    """Return the sign-up in a JSON body. Raises WrongInput naming field, value and bound."""
    if not isinstance(body, dict):
        raise WrongInput(f"The body is {type(body).__name__}; it must be a JSON object with `username` and `password`.")
    only(body, ("username", "name", "password"))
    username = check_username(body.get("username"))
    return SignUp(username, check_name(body.get("name", username)), check_password(body.get("password")))


def profile(body: Any) -> Profile:
    """Return the change in a JSON body of `PUT /2/users/me`.

    Raises WrongInput; other fields than these two are refused.
    """
    if not isinstance(body, dict) or not body or not set(body) <= {"name", "protected"}:
        fields = ", ".join(sorted(map(str, body)))[:80] if isinstance(body, dict) else type(body).__name__
        raise WrongInput(f"The body holds {fields or 'nothing'}; it must be a JSON object with `name`, `protected` or both.")
    protected = body.get("protected")
    if "protected" in body and not isinstance(protected, bool):
        raise WrongInput(f"`protected` is {str(protected)[:40]!r}; it must be true or false.")
    return Profile(check_name(body["name"]) if "name" in body else None, protected)


def check_name(value: Any) -> str:
    """Return the display name if it is valid. Raises WrongInput."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_NAME or not value.isprintable():
        raise WrongInput(f"`name` is {str(value)[:60]!r}; it must be 1 to {MAX_NAME} printable characters.")
    return value


def check_key(key: str) -> str:
    """Return the Idempotency-Key if it is valid. Raises WrongInput."""
    if len(key) > MAX_KEY or not key.isprintable():
        raise WrongInput(f"`Idempotency-Key` has {len(key)} characters; it must be at most {MAX_KEY} printable ones.")
    return key


def check_username(value: Any) -> str:
    """Return the username if it is valid. Raises WrongInput."""
    if not isinstance(value, str) or not USERNAME.fullmatch(value):
        raise WrongInput(f"`username` is {str(value)[:40]!r}; it must be 1 to 15 letters, digits or underscores.")
    return value


def check_password(value: Any) -> str:
    """Return the password if its length is valid.

    Raises WrongInput; the message never contains the password.
    """
    size = len(value) if isinstance(value, str) else 0
    if not MIN_PASSWORD <= size <= MAX_PASSWORD:
        raise WrongInput(f"`password` has {size} characters; it must have {MIN_PASSWORD} to {MAX_PASSWORD}.")
    return str(value)


def connections(following: bool, requested: bool, followed_by: bool, requested_by: bool) -> list[str]:
    """Return `connection_status` as Twitter words it.

    `requested`, `requested_by`: an open request to, from the other user.
    """
    words = {"follow_request_received": requested_by, "follow_request_sent": requested, "followed_by": followed_by,
             "following": following}
    return [word for word, holds in words.items() if holds]


def listed(query: Mapping[str, str], parameter: str) -> list[str]:
    """Return the values of a parameter that takes a list. Raises WrongInput unless there are 1 to 100."""
    parts = [part for part in query.get(parameter, "").split(",") if part]
    if not 1 <= len(parts) <= MAX_LISTED:
        raise WrongInput(f"`{parameter}` holds {len(parts)} values; it must hold 1 to {MAX_LISTED}, separated by commas.")
    return parts


def page_limit(text: str | None) -> int:
    """Return `max_results` of a page of users. Raises WrongInput."""
    if text is None:
        return DEFAULT_RESULTS
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_RESULTS):
        raise WrongInput(f"`max_results` is {text[:40]!r}; it must be a whole number from 1 to {MAX_RESULTS}.")
    return int(text)
