"""Who calls: access tokens, checked once and remembered until they expire.

HS256 and nothing else: a token that names another algorithm, or none, is refused before its claims are read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import jwt

from system.kernel.errors import CouldNotRun, Unauthorized
from system.services.gateway import policy

MAX_KEPT = 50_000  # tokens; about 30 MB


class Tokens:
    """Bearer tokens -> user ids."""

    def __init__(self, secret: str, now_s: Callable[[], float] = time.time) -> None:
        if len(secret) < 32:
            raise CouldNotRun(f"TWEETLAB_JWT_SECRET has {len(secret)} characters; tokens are signed with 32 or more. Set it.")
        self._secret = secret
        self._now_s = now_s
        self._kept: dict[bytes, tuple[bytes, float]] = {}

    def user_of(self, authorization: bytes | None) -> bytes:
        """Return the user id (decimal digits) of an Authorization header. Raises Unauthorized."""
        kept = self._kept.get(authorization) if authorization is not None else None
        if kept is not None and kept[1] > self._now_s():
            return kept[0]
        return self._check(authorization)

    def _check(self, authorization: bytes | None) -> bytes:
        if authorization is None:
            raise Unauthorized("No token; send `Authorization: Bearer <token>`, a token comes from POST /2/oauth2/token.")
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > policy.MAX_TOKEN_BYTES:
            raise Unauthorized("The Authorization header is no bearer token; send `Authorization: Bearer <token>`.")
        try:
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], options={"require": ["exp", "sub"]})
        except jwt.ExpiredSignatureError:
            raise Unauthorized("The token is expired; get a new one from POST /2/oauth2/token.") from None
        except jwt.InvalidTokenError:
            raise Unauthorized("The token does not hold; get one from POST /2/oauth2/token.") from None
        user = claims["sub"]
        if not (isinstance(user, str) and user.isascii() and user.isdigit() and len(user) <= 19):
            raise Unauthorized("The token names no user; get one from POST /2/oauth2/token.")
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[authorization] = (user.encode(), float(claims["exp"]))
        return user.encode()
