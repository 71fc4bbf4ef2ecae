"""Idempotency keys: PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Reservation:
    """What stands under an idempotency key: the id that the first request reserved, and its body's hash.

    `fresh`: this call made the reservation.
    """

    tweet_id: int
    body_hash: str
    fresh: bool


class KeyStore(Protocol):
    """What a user's idempotency keys are bound to, for at least a day. Durable: it outlives every cache."""

    async def reserve(self, user_id: int, key: str, tweet_id: int, body_hash: str) -> Reservation:
        """Bind `key` of `user_id` to `tweet_id`, once. Linearisable; a repeat returns the first reservation.

        A repeat is a write too, so its answer waits for whatever the first one's commit waited for.
        """
        ...
