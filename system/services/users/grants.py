"""The grants of the token endpoint: OAuth 2 (RFC 6749), password and refresh_token.

Pure: reads no clock, no store.

| error | when |
|---|---|
| invalid_request | neither a form nor a JSON object, or a parameter is missing or sent twice |
| unsupported_grant_type | any other grant |
| invalid_scope | an unknown scope, or one that was not granted to the refresh token |
| invalid_grant | wrong username or password; a refresh token that is unknown, expired, used or revoked |

All are 400 (RFC 6749, 5.2), as JSON with `error` and `error_description`, and the fields of the API's other
errors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import parse_qs

from system.kernel import numbers
from system.kernel.errors import WrongInput
from system.kernel.scopes import OFFLINE, SCOPES

ACCESS_LIFE_S = 7_200           # Twitter's OAuth 2 access tokens live two hours
REFRESH_LIFE_S = 30 * 86_400    # of each token; a sign-in ends after 30 days without use
REVOKED_FOR_S = ACCESS_LIFE_S + 60.0  # after which no access token of a grant can be valid
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
MAX_FIELDS = 16
MAX_TOKEN = 4_096               # characters of a token that are read


class Refused(WrongInput):
    """The token endpoint refuses the request. `error`: a code of RFC 6749, 5.2."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail)
        self.error = error

    def body(self) -> dict[str, object]:
        description = "".join(char if " " <= char <= "~" and char not in '"\\' else "'" for char in self.detail)
        return {"error": self.error, "error_description": description, **super().body()}


@dataclass(frozen=True)
class TokenRequest:
    """A token request. `grant_type`: password or refresh_token. `scope`: None if the request has none."""

    grant_type: str
    username: str = ""
    password: str = ""
    refresh_token: str = ""
    scope: frozenset[str] | None = None


def form_of(body: bytes, content_type: str) -> dict[str, str]:
    """Return the parameters of a form, or of a JSON object: twitter-api-v2 sends one. Raises Refused (invalid_request)."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        return _object_of(body)
    if kind != FORM:
        raise Refused("invalid_request", f"The content type is {content_type[:60] or 'not set'}; send {FORM}.")
    try:
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, encoding="utf-8", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise Refused("invalid_request", f"The form has more than {MAX_FIELDS} fields.") from None
    twice = sorted(name for name, values in fields.items() if len(values) > 1)
    if twice:
        raise Refused("invalid_request", f"`{twice[0][:40]}` was sent more than once.")
    return {name: values[0] for name, values in fields.items()}


def _object_of(body: bytes) -> dict[str, str]:
    try:
        fields = numbers.parse_json(body)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise Refused("invalid_request", f"The body is no JSON object of strings; send one, or a form ({FORM}).")
    return fields


def token_request(form: dict[str, str]) -> TokenRequest:
    """Return the token request in a form. Raises Refused."""
    grant_type = form.get("grant_type", "")
    if not grant_type:
        raise Refused("invalid_request", "`grant_type` is missing; it must be password or refresh_token.")
    if grant_type not in ("password", "refresh_token"):
        raise Refused("unsupported_grant_type", f"`grant_type` is {grant_type[:40]}; it must be password or refresh_token.")
    for name in ("username", "password") if grant_type == "password" else ("refresh_token",):
        if not form.get(name):
            raise Refused("invalid_request", f"`{name}` is missing; the {grant_type} grant needs it.")
    scope = scopes_in(form["scope"]) if form.get("scope", "").strip() else None
    return TokenRequest(grant_type, form.get("username", ""), form.get("password", ""), form.get("refresh_token", ""), scope)


def scopes_in(text: str) -> frozenset[str]:
    """Return the scopes in a `scope` parameter. Raises Refused (invalid_scope) on one that does not exist."""
    scopes = frozenset(text.split())
    unknown = sorted(scopes.difference(SCOPES))
    if unknown:
        raise Refused("invalid_scope", f"{unknown[0][:40]} is not a scope; the scopes are {', '.join(SCOPES)}.")
    return scopes


def granted(requested: frozenset[str] | None, allowed: frozenset[str] = frozenset(SCOPES)) -> str:
    """Return the scopes to grant, separated by blanks, in table order.

    `requested`: None for all that are allowed.

    Raises Refused (invalid_scope) if a requested scope is not in `allowed`.
    """
    requested = allowed if requested is None else requested
    beyond = sorted(requested - allowed)
    if beyond:
        raise Refused("invalid_scope", f"{beyond[0][:40]} was not granted at sign-in; sign in again to get it.")
    return " ".join(scope for scope in SCOPES if scope in requested)


def refreshable(scope: str) -> bool:
    """Return whether a sign-in with these scopes gets a refresh token."""
    return OFFLINE in scope.split()


def claims(user_id: int, scope: str, name: str, now_s: int) -> dict[str, object]:
    """Return the claims of an access token.

    `name`: its name for revocation. `now_s`: wall time, seconds since 1970.
    """
    return {"sub": str(user_id), "iat": now_s, "exp": now_s + ACCESS_LIFE_S, "jti": name, "scope": scope}


def hash_of(token: str) -> str:
    """Return the stored hash of a refresh token.

    The token is 256 random bits, so a plain hash cannot be inverted.
    """
    return hashlib.sha256(token.encode()).hexdigest()
