"""Idempotency keys in memory, for unit tests."""

from __future__ import annotations

from typing import Self

from system.kernel.settings import Settings
from system.ports import Reservation


class MemoryKeys:
    """`KeyStore` in a dict."""

    def __init__(self) -> None:
        self._keys: dict[tuple[int, str], tuple[int, str]] = {}

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return an empty store; `settings` are not read."""
        return cls()

    async def close(self) -> None:
        """Keep everything; there is nothing to close."""

    async def ready(self) -> None:
        """Always ready."""

    async def prepare(self) -> None:
        """Nothing to prepare."""

    async def clear(self) -> None:
        """Forget all keys."""
        self._keys.clear()

    async def reserve(self, user_id: int, key: str, tweet_id: int, body_hash: str) -> Reservation:
        fresh = (user_id, key) not in self._keys
        return Reservation(*self._keys.setdefault((user_id, key), (tweet_id, body_hash)), fresh=fresh)
