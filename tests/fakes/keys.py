"""In-memory idempotency keys, for unit tests."""

from __future__ import annotations

from system.ports import Reservation
from tests.fakes.base import Memory


class MemoryKeys(Memory):
    """`KeyStore` in a dict."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._keys: dict[tuple[int, str], tuple[int, str]] = {}

    async def reserve(self, user_id: int, key: str, tweet_id: int, body_hash: str) -> Reservation:
        fresh = (user_id, key) not in self._keys
        return Reservation(*self._keys.setdefault((user_id, key), (tweet_id, body_hash)), fresh=fresh)
