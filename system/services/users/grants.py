"""What the token endpoint grants: OAuth 2 (RFC 6749), password and refresh_token. Decides; reads no clock, no store.

| answer | where |
|---|---|
| invalid_request | no form, a parameter missing or sent twice |
| unsupported_grant_type | another grant |
| invalid_scope | a scope that is unknown, or that the refresh token was not granted |
| invalid_grant | name and password do not belong together; a refresh token that is unknown, expired, used or revoked |

All are 400 (RFC 6749, 5.2), as JSON with `error` and `error_description`, beside the fields of the API's other errors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qs

from system.kernel.errors import WrongInput
from system.kernel.scopes import OFFLINE, SCOPES

ACCESS_LIFE_S = 7_200           # Twitter's OAuth 2 access tokens live two hours
REFRESH_LIFE_S = 30 * 86_400    # each; a sign-in ends after 30 days without use
REVOKED_FOR_S = ACCESS_LIFE_S + 60.0  # after which no access token of a grant can be alive
FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 16
MAX_TOKEN = 4_096               # characters of a token that is looked at


class Refused(WrongInput):
    """The token endpoint refuses. `error`: one of RFC 6749, 5.2."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error

    def body(self) -> dict[str, object]:
        told = "".join(char if " " <= char <= "~" and char not in '"\\' else "'" for char in self.detail)
        return {"error": self.error, "error_description": told, **super().body()}


@dataclass(frozen=True)
class Asked:
    """A token request. `grant_type`: password or refresh_token. `scope`: None where the caller did not say."""

    grant_type: str
    username: str = ""
    password: str = ""
    refresh_token: str = ""
    scope: frozenset[str] | None = None


def form_of(body: bytes, content_type: str) -> dict[str, str]:
    """Return the parameters of a form. Raises Refused (invalid_request)."""
    if content_type.partition(";")[0].strip().lower() != FORM:
        raise Refused("invalid_request", f"The content type is {content_type[:60] or 'not told'}; send {FORM}.")
    try:
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, encoding="utf-8", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refused("invalid_request", f"The form has more than {MAX_FIELDS} fields.") from None
    twice = sorted(name for name, values in fields.items() if len(values) > 1)
    if twice:
        raise Refused("invalid_request", f"`{twice[0][:40]}` was sent more than once.")
    return {name: values[0] for name, values in fields.items()}


def asked(form: dict[str, str]) -> Asked:
    """Return the token request in a form. Raises Refused."""
    grant_type = form.get("grant_type", "")
    if not grant_type:
        raise Refused("invalid_request", "`grant_type` is missing; it is password or refresh_token.")
    if grant_type not in ("password", "refresh_token"):
        raise Refused("unsupported_grant_type", f"`grant_type` is {grant_type[:40]}; it must be password or refresh_token.")
    for name in ("username", "password") if grant_type == "password" else ("refresh_token",):
        if not form.get(name):
            raise Refused("invalid_request", f"`{name}` is missing; the {grant_type} grant needs it.")
    scope = scopes_in(form["scope"]) if form.get("scope", "").strip() else None
    return Asked(grant_type, form.get("username", ""), form.get("password", ""), form.get("refresh_token", ""), scope)


def scopes_in(text: str) -> frozenset[str]:
    """Return the scopes in a `scope` parameter. Raises Refused (invalid_scope) on one that does not exist."""
    found = frozenset(text.split())
    unknown = sorted(found.difference(SCOPES))
    if unknown:
        raise Refused("invalid_scope", f"{unknown[0][:40]} is no scope; there are {', '.join(SCOPES)}.")
    return found


def granted(wish: frozenset[str] | None, most: frozenset[str] = frozenset(SCOPES)) -> str:
    """Return the scopes to grant, separated by blanks, in the order of the table: what was asked for, all where nothing was.

    Raises Refused (invalid_scope) on a wish beyond `most`.
    """
    wish = most if wish is None else wish
    beyond = sorted(wish - most)
    if beyond:
        raise Refused("invalid_scope", f"{beyond[0][:40]} was not granted at sign-in; sign in again to get it.")
    return " ".join(scope for scope in SCOPES if scope in wish)


def refreshable(scope: str) -> bool:
    """Does a sign-in with these scopes get a refresh token?"""
    return OFFLINE in scope.split()


def claims(user_id: int, scope: str, name: str, now_s: int) -> dict[str, object]:
    """Return what an access token says. `name`: under which it is revoked. `now_s`: wall time, seconds since 1970."""
    return {"sub": str(user_id), "iat": now_s, "exp": now_s + ACCESS_LIFE_S, "jti": name, "scope": scope}


def hash_of(token: str) -> str:
    """Return what is kept of a refresh token. It is 256 random bits, so a plain hash cannot be turned back."""
    return hashlib.sha256(token.encode()).hexdigest()
