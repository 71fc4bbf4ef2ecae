"""Rate limits, counted in a Redis (the limit store) that all gateways share, and locally while it is down.

    SHARED --store does not respond--> LOCAL --it responds for SETTLE_S, and has our local counts--> SHARED

In LOCAL, each gateway admits limit / `max_gateways` in windows of its own, so all gateways together admit at
most the limit. The counts from before the outage are unknown to them, so the overshoot is at most one
window's limit per outage. A gateway that never reached the store may be the replacement of one that admitted
its share and died: it admits nothing for one window, or until the store responds.

Each gateway reports its local counts as soon as the store responds. The store decides again only after every
gateway had time to report, so a store that restarts empty does not add the limit of yet another window.
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
from system.kernel.resilience.rate_window import Quota, QuotaState, SlidingWindow
from system.kernel.telemetry import metrics
from system.ports import LimitStore
from system.services.gateway import policy

PROBE_S = 0.5    # pause between two tries to reach the store during an outage
OPEN_TRIES = 4   # tries to reach the store before the first request
# How long the store must respond without interruption before it decides again: by then every gateway has
# tried to report twice.
SETTLE_S = 1.5

_log = logging.getLogger("tweetlab")


class Limiter:
    """Decides whether a request exceeds its rate limits. Belongs to one event loop.

    `now_s`: returns the wall time, in seconds, for local windows.
    """

    def __init__(self, store: LimitStore, knobs: LimitKnobs, now_s: Callable[[], float] = time.time) -> None:
        self._store, self._knobs, self._now_s = store, knobs, now_s
        self._windows = SlidingWindow(knobs.window_s or 1.0)
        self._unreported: Counter[str] = Counter()
        self._recovery: asyncio.Task[None] | None = None
        self._reached, self._started_s = False, time.monotonic()

    async def open(self) -> None:
        """Connect to the store before the first request, so that a slow connection causes no refusal.

        Gives up after OPEN_TRIES, without an error.
        """
        for _ in range(OPEN_TRIES):
            if await self._report():
                return
            await asyncio.sleep(PROBE_S / OPEN_TRIES)

    @property
    def local(self) -> bool:
        """Whether limits are counted locally, because the store does not respond."""
        return self._recovery is not None

    async def take(self, quotas: Sequence[Quota]) -> QuotaState:
        """Count one request and return the decision.

        Never fails. In an outage, only the requests in flight when it begins wait for the store.
        """
        if self._recovery is None:
            try:
                decision = await self._store.take(quotas, self._knobs.window_s)
                self._reached = True
                return decision
            except LabError as problem:
                self._go_local(problem)
        decision = self._windows.take(self._share(quotas), self._now_s())
        if decision.admitted:
            self._unreported.update(quota.key for quota in quotas)
        return decision

    def _share(self, quotas: Sequence[Quota]) -> list[Quota]:
        if not self._reached and time.monotonic() - self._started_s < rate_window.span_s(self._knobs.window_s):
            return [Quota(quota.key, 0) for quota in quotas]
        return policy.shares(quotas, self._knobs.max_gateways)

    async def close(self) -> None:
        """Stop trying to reach the store."""
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait({self._recovery})

    def _go_local(self, problem: LabError) -> None:
        if self._recovery is None:
            _log.warning("limits are now counted locally: %s", problem)
            metrics.gauge("tweetlab_limits_local", 1)
            self._recovery = asyncio.ensure_future(self._recover())

    async def _recover(self) -> None:
        await background.run_forever(self._wait_settled, "limits", once=True)
        self._recovery = None
        metrics.gauge("tweetlab_limits_local", 0)
        _log.warning("limits are counted in the store again")
        # The counts since the last report reach the store before any request does: commands on one connection
        # stay in order.
        if not await self._report():
            self._go_local(StoreUnavailable("The store of the limits became unavailable again."))

    async def _wait_settled(self) -> None:
        """Return when the store has responded to every report for SETTLE_S."""
        answering_since_s: float | None = None
        while True:
            await asyncio.sleep(PROBE_S)
            if not await self._report():
                answering_since_s = None
                continue
            answering_since_s = time.monotonic() if answering_since_s is None else answering_since_s
            if time.monotonic() - answering_since_s >= SETTLE_S:
                return

    async def _report(self) -> bool:
        """Add the local counts to the counts in the store. Return whether it responded.

        After False the same counts are reported again, so the store may have added them twice.
        """
        counts, self._unreported = self._unreported, Counter()
        try:
            await self._store.add({policy.PROBE_KEY: 1, **counts}, self._knobs.window_s)
        except Exception as problem:
            self._unreported.update(counts)
            if not isinstance(problem, LabError):
                _log.exception("local counts could not be reported")
            return False
        self._reached = True
        return True
