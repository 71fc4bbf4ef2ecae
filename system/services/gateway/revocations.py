"""Revoked tokens: read from PostgreSQL every POLL_S seconds; while that fails, every token is refused.

A token is refused at every gateway at most STALE_S seconds after its revocation was acknowledged: either this
gateway has read the revocations since, or its copy is older than STALE_S and it answers 503. The age counts
from *before* the start of the read. The primary is read; while there is none, enough standbys are read that
at least one of them cannot lag.
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
STALE_S = 5.0   # the guarantee
HANGS_S = 30.0  # after which the poller itself has failed: a read without an answer times out far earlier

_log = logging.getLogger("tweetlab")


class Revocations:
    """The names of revoked tokens and grants, and the age of that copy. `now_s`: monotonic."""

    def __init__(self, store: TokenStore, now_s: Callable[[], float] = time.monotonic) -> None:
        self._store, self._now_s = store, now_s
        self._names: frozenset[str] = frozenset()
        self._as_of_s = self._tried_s = float("-inf")
        metrics.read("tweetlab_revocations_age_seconds", lambda: min(1e6, self._now_s() - self._as_of_s))

    @property
    def known(self) -> bool:
        """Whether revocations were ever read."""
        return self._as_of_s != float("-inf")

    @property
    def polling(self) -> bool:
        """Whether the poller runs.

        It also does while PostgreSQL is away, when no other gateway would know more.
        """
        return self._now_s() - self._tried_s <= HANGS_S

    def check(self, caller: Caller) -> None:
        """Return if the token is not revoked.

        Raises Unauthorized if it is, Unavailable if the copy is too old.
        """
        if self._now_s() - self._as_of_s > STALE_S:
            raise Unavailable("Revocations of tokens cannot be read, so no token is accepted; retry.", definite=True,
                              retry_after_s=POLL_S)
        if self._names and (caller.name in self._names or caller.grant in self._names):
            raise Unauthorized("The token is revoked; get a new one from POST /2/oauth2/token.")

    async def poll(self) -> bool:
        """Read the revocations once. Return False if PostgreSQL did not answer."""
        started_s = self._tried_s = self._now_s()
        try:
            names = await self._store.revoked()
        except LabError as problem:
            _log.warning("revocations could not be read: %s", problem)
            return False
        self._names, self._as_of_s = names, started_s
        return True

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            started_s = self._now_s()
            period_s = POLL_S if await self.poll() else AGAIN_S
            await asyncio.sleep(max(0.1, started_s + period_s - self._now_s()))
