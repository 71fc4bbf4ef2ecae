"""In-memory TokenStore, for unit tests. Every method is atomic: none awaits in the middle."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from system.ports.tokens import Grant


class MemoryTokens:
    """Grants and revocations in memory. `now_s`: returns the wall time."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._tokens: dict[str, tuple[Grant, float]] = {}
        self._revoked: dict[str, float] = {}

    async def begin(self, grant: Grant, token_hash: str, life_s: float) -> None:
        self._tokens[token_hash] = (replace(grant, used=False), self._now_s() + life_s)

    async def find(self, token_hash: str) -> Grant | None:
        grant, until_s = self._tokens.get(token_hash, (None, 0.0))
        return grant if until_s > self._now_s() else None

    async def rotate(self, token_hash: str, next_hash: str, life_s: float, access_s: float) -> Grant | None:
        grant = await self.find(token_hash)
        if grant is None:
            return None
        if grant.used:
            self._end(grant, access_s)
            return grant
        self._tokens[token_hash] = (replace(grant, used=True), self._tokens[token_hash][1])
        self._tokens[next_hash] = (grant, self._now_s() + life_s)
        return grant

    async def end(self, token_hash: str, access_s: float) -> Grant | None:
        grant = await self.find(token_hash)
        if grant is not None:
            self._end(grant, access_s)
        return grant

    def _end(self, grant: Grant, access_s: float) -> None:
        self._tokens = {key: token for key, token in self._tokens.items() if token[0].id != grant.id}
        self._revoked[grant.id] = self._now_s() + access_s

    async def revoke(self, name: str, life_s: float) -> None:
        self._revoked[name] = max(self._revoked.get(name, 0.0), self._now_s() + life_s)

    async def revoked(self) -> frozenset[str]:
        now_s = self._now_s()
        return frozenset(name for name, until_s in self._revoked.items() if until_s > now_s)
