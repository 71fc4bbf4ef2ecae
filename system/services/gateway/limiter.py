"""Rate limits: counted in a Redis that all gateways share; while it is away, locally, and then for a share alone.

    SHARED --the store does not answer--> LOCAL --it answered for SETTLE_S, and has what we admitted--> SHARED

Local: each gateway admits limit / `max_gateways` by windows of its own, so all of them together admit at most the limit. What
was admitted before the outage is not known then: the overshoot is at most one window's limit in an outage. A gateway that the
store has not answered yet may stand in the place of one that admitted its share and died: for one window it admits none, until
the store answers. What is admitted locally is told to the store as soon as it answers, and only when every gateway had the
time to do so is it asked again: a store that comes back empty does not begin a third window.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from system.kernel import background
from system.kernel.errors import LabError, StoreUnavailable
from system.kernel.policies import LimitKnobs
from system.kernel.resilience import rate_window
from system.kernel.resilience.rate_window import Quota, Standing, Windows
from system.kernel.telemetry import metrics
from system.ports import LimitStore
from system.services.gateway import policy

PROBE_S = 0.5    # between two tries while the store is away
GREETINGS = 4    # tries to reach the store before the first request
SETTLE_S = 1.5   # for which it must answer before it decides again: every gateway has tried twice by then

_log = logging.getLogger("tweetlab")


class Limiter:
    """Decides who is above his limit. One loop's; `now_s`: wall time of local windows."""

    def __init__(self, store: LimitStore, knobs: LimitKnobs, now_s: Callable[[], float] = time.time) -> None:
        self._store, self._knobs, self._now_s = store, knobs, now_s
        self._windows = Windows(knobs.window_s or 1.0)
        self._untold: Counter[str] = Counter()
        self._returning: asyncio.Task[None] | None = None
        self._met, self._began_s = False, time.monotonic()

    async def open(self) -> None:
        """Reach the store, so that a first connection that takes long refuses nobody. Tries a few times, then goes on without."""
        for _ in range(GREETINGS):
            if await self._told():
                return
            await asyncio.sleep(PROBE_S / GREETINGS)

    @property
    def local(self) -> bool:
        """Is the store away?"""
        return self._returning is not None

    async def take(self, quotas: Sequence[Quota]) -> Standing:
        """Count one request, or say that it is too much. Never fails, and waits for a silent store once."""
        if self._returning is None:
            try:
                standing = await self._store.take(quotas, self._knobs.window_s)
                self._met = True
                return standing
            except LabError as problem:
                self._leave(problem)
        standing = self._windows.take(self._share(quotas), self._now_s())
        if standing.admitted:
            self._untold.update(quota.key for quota in quotas)
        return standing

    def _share(self, quotas: Sequence[Quota]) -> list[Quota]:
        if not self._met and time.monotonic() - self._began_s < rate_window.span_s(self._knobs.window_s):
            return [Quota(quota.key, 0) for quota in quotas]
        return policy.shares(quotas, self._knobs.max_gateways)

    async def close(self) -> None:
        """End the tries to return."""
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait({self._returning})

    def _leave(self, problem: LabError) -> None:
        if self._returning is None:
            _log.warning("limits are counted locally now: %s", problem)
            metrics.gauge("tweetlab_limits_local", 1)
            self._returning = asyncio.ensure_future(self._return())

    async def _return(self) -> None:
        await background.keep(self._settled, "limits", once=True)
        self._returning = None
        metrics.gauge("tweetlab_limits_local", 0)
        _log.warning("limits are counted by the store again")
        # What was admitted since the last telling goes out before any request asks: commands of one connection keep their order.
        if not await self._told():
            self._leave(StoreUnavailable("The store of the limits left again."))

    async def _settled(self) -> None:
        """Return when the store answered for SETTLE_S."""
        since_s: float | None = None
        while True:
            await asyncio.sleep(PROBE_S)
            if not await self._told():
                since_s = None
                continue
            since_s = time.monotonic() if since_s is None else since_s
            if time.monotonic() - since_s >= SETTLE_S:
                return

    async def _told(self) -> bool:
        """Tell the store what was admitted. False where it does not answer; what was told then may count twice."""
        telling, self._untold = self._untold, Counter()
        try:
            await self._store.add({policy.PROBE_KEY: 1, **telling}, self._knobs.window_s)
        except Exception as problem:
            self._untold.update(telling)
            if not isinstance(problem, LabError):
                _log.exception("what was admitted could not be told")
            return False
        self._met = True
        return True
