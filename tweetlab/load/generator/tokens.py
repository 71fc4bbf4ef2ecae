"""Bearer tokens for many users, signed here with the lab's own secret: logging each user in would cost more than the run.

Runs in Locust's process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from system.kernel import scopes
from system.services.shared import signing

LIFE_S = 6 * 3600  # longer than any run


class Tokens:
    """HS256 tokens `{sub, iat, exp, scope, jti}`; each user has one for the whole run."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._headers: dict[int, str] = {}

    def sign(self, users: Iterable[int]) -> None:
        """Sign tokens of all `users` in advance (about 20 µs each)."""
        for user in users:
            self.headers(user)

    def token(self, user: int) -> str:
        """Return a new token of `user`."""
        now = int(time.time())
        scope = f"{scopes.ALL} {scopes.MEASURED}"
        claims = {"sub": str(user), "iat": now, "exp": now + LIFE_S, "scope": scope, "jti": f"t{user}"}
        return signing.sign(claims, self._secret)

    def headers(self, user: int) -> str:
        """Return the header lines of a request by `user`; signed at the first call."""
        lines = self._headers.get(user)
        if lines is None:
            lines = self._headers[user] = f"authorization: Bearer {self.token(user)}\r\naccept: application/json\r\n"
        return lines
