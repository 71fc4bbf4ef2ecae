"""Refresh tokens and revocations: PostgreSQL.

A *grant* is one sign-in. Its refresh tokens follow one another, each used once; they and all access tokens that came of them
carry the grant's id. Revoking the grant ends all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Grant:
    """What a refresh token stands for. `scope`: as granted, separated by blanks. `used`: it was exchanged before."""

    id: str
    user_id: int
    scope: str
    used: bool = False


class TokenStore(Protocol):
    """Grants and revocations. Durable; a commit is never cancelled. Tokens are known by their hash alone."""

    async def begin(self, grant: Grant, token_hash: str, life_s: float) -> None:
        """Keep the first refresh token of a new grant for `life_s` seconds."""
        ...

    async def find(self, token_hash: str) -> Grant | None:
        """Return the grant of a refresh token, None where it is unknown, expired or revoked."""
        ...

    async def rotate(self, token_hash: str, next_hash: str, life_s: float, access_s: float) -> Grant | None:
        """Use a refresh token up and keep its successor for `life_s`, in one transaction. Linearisable: one of two wins.

        Returns None where it is unknown, expired or revoked. Where it was used before (`used` in what is returned) no
        successor is kept and the whole grant is revoked, its access tokens for `access_s` seconds: somebody has a copy.
        """
        ...

    async def end(self, token_hash: str, access_s: float) -> Grant | None:
        """Revoke the grant of a refresh token, and its access tokens for `access_s` seconds. None where it is unknown."""
        ...

    async def revoke(self, name: str, life_s: float) -> None:
        """Revoke the access token with this name (its jti) for `life_s` seconds. Safe to repeat."""
        ...

    async def revoked(self) -> frozenset[str]:
        """Return the names of all tokens and grants that are revoked now."""
        ...
