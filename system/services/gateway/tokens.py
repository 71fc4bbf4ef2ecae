"""Authentication of callers: access tokens are verified once and cached until they expire.

Revocation is checked separately (`revocations`).

HS256 only: a token that names another algorithm, or none, is refused before its claims are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jwt

from system.kernel.errors import Unauthorized
from system.services.gateway import policy
from system.services.shared import signing

MAX_CACHED = 50_000  # tokens; about 40 MB


class Caller(NamedTuple):
    """The claims of a token.

    `user`: decimal digits. `name`, `grant`: names for revocation. `until_s`: wall time of its expiry.
    """

    user: bytes
    scopes: frozenset[str]
    name: str
    grant: str
    until_s: float


class Tokens:
    """Bearer tokens -> callers. Does not check revocation: see `revocations`."""

    def __init__(self, keys: signing.Keys, now_s: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._now_s = now_s
        self._cached: dict[bytes, Caller] = {}

    def caller_of(self, authorization: bytes | None) -> Caller:
        """Return the caller of an Authorization header. Raises Unauthorized."""
        cached = self._cached.get(authorization) if authorization is not None else None
        if cached is not None and cached.until_s > self._now_s():
            return cached
        return self._verify(authorization)

    def _verify(self, authorization: bytes | None) -> Caller:
        if authorization is None:
            raise Unauthorized("No token; send `Authorization: Bearer <token>` with a token from POST /2/oauth2/token.")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > policy.MAX_TOKEN_BYTES:
            raise Unauthorized("The Authorization header holds no bearer token; send `Authorization: Bearer <token>`.")
        try:
            claims = self._keys.claims_of(token)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token has expired; get a new one from POST /2/oauth2/token.") from None
        except (jwt.InvalidTokenError, ValueError):
            raise Unauthorized("The token is invalid; get one from POST /2/oauth2/token.") from None
        user, scope = claims["sub"], claims.get("scope", "")
        if not (isinstance(user, str) and user.isascii() and user.isdigit() and len(user) <= 19):
            raise Unauthorized("The token names no user; get one from POST /2/oauth2/token.")
        name = signing.name_of(token, claims)
        scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset()
        caller = Caller(user.encode(), scopes, name, signing.grant_of(name), float(claims["exp"]))
        if len(self._cached) >= MAX_CACHED:
            self._cached.clear()
        self._cached[authorization] = caller
        return caller
