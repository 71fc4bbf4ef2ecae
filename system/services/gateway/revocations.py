"""Which tokens are revoked: read from PostgreSQL every POLL_S seconds, refused for everybody where that fails.

A token is refused at every gateway at most STALE_S seconds after its revocation was acknowledged: either this gateway has
read the revocations since, or what it knows is older than STALE_S and it answers 503. The age counts from the moment
*before* the read began. The primary is asked, and while there is none so many standbys that one of them cannot lag.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from system.kernel.errors import LabError, Unauthorized, Unavailable
from system.kernel.telemetry import metrics
from system.ports import TokenStore
from system.services.gateway.tokens import Caller

POLL_S = 2.0
AGAIN_S = 0.5   # after a failed poll
STALE_S = 5.0   # the promise
HANGS_S = 30.0  # after which the polling itself has failed: a read that PostgreSQL does not answer ends far earlier

_log = logging.getLogger("tweetlab")


class Revocations:
    """The names that are revoked, and how old that knowledge is. `now_s`: monotonic."""

    def __init__(self, store: TokenStore, now_s: Callable[[], float] = time.monotonic) -> None:
        self._store, self._now_s = store, now_s
        self._names: frozenset[str] = frozenset()
        self._as_of_s = self._tried_s = float("-inf")
        metrics.read("tweetlab_revocations_age_seconds", lambda: min(1e6, self._now_s() - self._as_of_s))

    @property
    def known(self) -> bool:
        """Were they ever read?"""
        return self._as_of_s != float("-inf")

    @property
    def polled(self) -> bool:
        """Are they asked for at all? While PostgreSQL is away they are, and another gateway would know no more."""
        return self._now_s() - self._tried_s <= HANGS_S

    def check(self, caller: Caller) -> None:
        """Return where the caller's token stands. Raises Unauthorized, or Unavailable where nobody can tell."""
        if self._now_s() - self._as_of_s > STALE_S:
            raise Unavailable("Which tokens are revoked is not known now; nobody is let in until it is.", definite=True,
                              retry_after_s=POLL_S)
        if self._names and (caller.name in self._names or caller.grant in self._names):
            raise Unauthorized("The token is revoked; get a new one from POST /2/oauth2/token.")

    async def poll(self) -> bool:
        """Read them once. False where PostgreSQL did not answer."""
        began_s = self._tried_s = self._now_s()
        try:
            names = await self._store.revoked()
        except LabError as problem:
            _log.warning("revocations could not be read: %s", problem)
            return False
        self._names, self._as_of_s = names, began_s
        return True

    async def run(self) -> None:
        """Poll for ever."""
        while True:
            began_s = self._now_s()
            period_s = POLL_S if await self.poll() else AGAIN_S
            await asyncio.sleep(max(0.1, began_s + period_s - self._now_s()))
