"""Refresh tokens and revocations: PostgreSQL.

A *grant* is one sign-in. Its refresh tokens replace one another, each used once; they and all access tokens
issued with them carry the grant's id. Revoking the grant invalidates all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Grant:
    """The grant of a refresh token.

    `scope`: as granted, separated by spaces. `used`: the token was exchanged before.
    """

    id: str
    user_id: int
    scope: str
    used: bool = False


class TokenStore(Protocol):
    """Grants and revocations. Durable; a commit is never cancelled. Only hashes of tokens are stored."""

    async def begin(self, grant: Grant, token_hash: str, life_s: float) -> None:
        """Store the first refresh token of a new grant for `life_s` seconds."""
        ...

    async def find(self, token_hash: str) -> Grant | None:
        """Return the grant of a refresh token, None if it is unknown, expired or revoked."""
        ...

    async def rotate(self, token_hash: str, next_hash: str, life_s: float, access_s: float) -> Grant | None:
        """Consume a refresh token and store its successor for `life_s` seconds, in one transaction.

        Linearisable.

        Returns None if it is unknown, expired or revoked. If it was used before (`used` of the result) no
        successor is stored and the whole grant is revoked, its access tokens for `access_s` seconds: the
        token was copied.
        """
        ...

    async def end(self, token_hash: str, access_s: float) -> Grant | None:
        """Revoke the grant of a refresh token, and its access tokens for `access_s` seconds.

        None if it is unknown.
        """
        ...

    async def revoke(self, name: str, life_s: float) -> None:
        """Revoke the access token with this name (its jti) for `life_s` seconds. Safe to repeat."""
        ...

    async def revoked(self) -> frozenset[str]:
        """Return the names of all tokens and grants that are revoked now."""
        ...
