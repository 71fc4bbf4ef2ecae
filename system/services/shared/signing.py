"""Access tokens: JSON Web Tokens signed with HS256 by one of at most two keys.

The newest key signs and the previous one still verifies, so a key rotation ends no session: every gateway
first gets both keys, then the users service signs with the new one, and once the old tokens have expired the
old key is removed. A token's header names its key (`kid`, a fingerprint that does not reveal the key). A
token without it is tried with both.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import jwt

from system.kernel.errors import CouldNotRun

ALGORITHM = "HS256"
SKEW_S = 10.0  # seconds by which the clock of another machine may be ahead; expiry has no such tolerance
OPTIONS: Any = {"require": ["exp", "sub"], "verify_iat": False}
MIN_SECRET_CHARACTERS = 32  # RFC 7518, 3.2: a key of at least 256 bits


def kid_of(secret: str) -> str:
    """Return the name of a key: 12 hex digits."""
    return hashlib.sha256(b"tweetlab kid " + secret.encode()).hexdigest()[:12]


def sign(claims: Mapping[str, Any], secret: str) -> str:
    """Return a token with these claims."""
    return jwt.encode(dict(claims), secret, algorithm=ALGORITHM, headers={"kid": kid_of(secret)})


class Keys:
    """The keys that verify tokens.

    `previous`: the key before `newest`, "" if there is none. Raises CouldNotRun on a short key.
    """

    def __init__(self, newest: str, previous: str = "") -> None:
        _check_length("TWEETLAB_JWT_SECRET", newest)
        if previous:
            _check_length("TWEETLAB_JWT_SECRET_PREVIOUS", previous)
        self.newest = newest
        self._by_kid = {kid_of(secret): secret for secret in (newest, previous) if secret}

    def claims_of(self, token: str | bytes) -> dict[str, Any]:
        """Return the claims of a valid token.

        Signed by HS256 with one of the keys, not expired, with `exp` and `sub`, and issued at most SKEW_S in
        the future.

        Raises jwt.ExpiredSignatureError, jwt.InvalidTokenError.
        """
        kid = jwt.get_unverified_header(token).get("kid")
        keys = list(self._by_kid.values()) if kid is None else [self._by_kid[kid]] if kid in self._by_kid else []
        problem = jwt.InvalidTokenError("no key of this name")
        for secret in keys:
            try:
                return _issued(jwt.decode(token, secret, algorithms=[ALGORITHM], options=OPTIONS))
            except jwt.InvalidSignatureError as wrong:
                problem = wrong
        raise problem


def _issued(claims: dict[str, Any]) -> dict[str, Any]:
    """Return the claims unless `iat` is too far ahead. Raises jwt.InvalidTokenError."""
    issued_s = claims.get("iat", 0)
    if not isinstance(issued_s, int | float) or isinstance(issued_s, bool):
        raise jwt.InvalidIssuedAtError("`iat` is no number")
    if issued_s > time.time() + SKEW_S:
        raise jwt.ImmatureSignatureError("`iat` is in the future")
    return claims


def _check_length(name: str, secret: str) -> None:
    if len(secret) < MIN_SECRET_CHARACTERS:
        raise CouldNotRun(f"{name} has {len(secret)} characters; it needs {MIN_SECRET_CHARACTERS} or more. Set it.")


def name_of(token: str | bytes, claims: Mapping[str, Any]) -> str:
    """Return the name under which a token is revoked: its `jti`, else a fingerprint."""
    name = claims.get("jti")
    if isinstance(name, str) and 0 < len(name) <= 64:
        return name
    return hashlib.sha256(token if isinstance(token, bytes) else token.encode()).hexdigest()[:32]


def grant_of(name: str) -> str:
    """Return the grant of a token by its name `<grant>.<number>`; revoking the grant revokes all its tokens."""
    return name.partition(".")[0]
