"""Who calls: access tokens, checked once and remembered until they expire or are revoked.

HS256 and nothing else: a token that names another algorithm, or none, is refused before its claims are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jwt

from system.kernel.errors import Unauthorized
from system.services.gateway import policy
from system.services.shared import signing

MAX_KEPT = 50_000  # tokens; about 40 MB


class Caller(NamedTuple):
    """What a token says. `user`: decimal digits. `name`, `grant`: under which it is revoked. `until_s`: wall time of its end."""

    user: bytes
    scopes: frozenset[str]
    name: str
    grant: str
    until_s: float


class Tokens:
    """Bearer tokens -> callers. Revocation is not asked here: see `revocations`."""

    def __init__(self, keys: signing.Keys, now_s: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._now_s = now_s
        self._kept: dict[bytes, Caller] = {}

    def caller_of(self, authorization: bytes | None) -> Caller:
        """Return who an Authorization header speaks for. Raises Unauthorized."""
        kept = self._kept.get(authorization) if authorization is not None else None
        if kept is not None and kept.until_s > self._now_s():
            return kept
        return self._check(authorization)

    def _check(self, authorization: bytes | None) -> Caller:
        if authorization is None:
            raise Unauthorized("No token; send `Authorization: Bearer <token>`, a token comes from POST /2/oauth2/token.")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > policy.MAX_TOKEN_BYTES:
            raise Unauthorized("The Authorization header is no bearer token; send `Authorization: Bearer <token>`.")
        try:
            claims = self._keys.claims_of(token)
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token is expired; get a new one from POST /2/oauth2/token.") from None
        except (jwt.InvalidTokenError, ValueError):
            raise Unauthorized("The token does not hold; get one from POST /2/oauth2/token.") from None
        user, scope = claims["sub"], claims.get("scope", "")
        if not (isinstance(user, str) and user.isascii() and user.isdigit() and len(user) <= 19):
            raise Unauthorized("The token names no user; get one from POST /2/oauth2/token.")
        name = signing.name_of(token, claims)
        scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset()
        caller = Caller(user.encode(), scopes, name, signing.grant_of(name), float(claims["exp"]))
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[authorization] = caller
        return caller
