"""Idempotency keys: PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Reservation:
    """The value of an idempotency key: the id that the first request reserved, and the hash of its body.

    `fresh`: this call made the reservation.
    """

    tweet_id: int
    body_hash: str
    fresh: bool


class KeyStore(Protocol):
    """Idempotency keys of users, kept for at least a day. Durable: independent of every cache."""

    async def reserve(self, user_id: int, key: str, tweet_id: int, body_hash: str) -> Reservation:
        """Bind `key` of `user_id` to `tweet_id`, once. Linearisable; a repeat returns the first reservation.

        A repeat is a write too, so it waits for everything that the first commit waited for.
        """
        ...
