"""Rate limits: counted in a Redis that all gateways share; while it is away, each gateway counts its share.

    SHARED --the store does not answer--> LOCAL --it answered for SETTLE_S, and has our local counts--> SHARED

Local: each gateway admits limit / `max_gateways` by windows of its own, so all of them together admit at most
the limit. Counts from before the outage are unknown then: the overshoot is at most one window's limit per
outage. A gateway that never reached the store may have replaced one that admitted its share and died: it
admits nothing for one window, or until the store answers. Local counts are reported to the store as soon as
it answers, and the store decides again only once every gateway had time to report: a store that restarts
empty does not open a third window.
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

PROBE_S = 0.5    # between two tries while the store is away
OPEN_TRIES = 4   # to reach the store before the first request
SETTLE_S = 1.5   # for which the store must answer before it decides again: every gateway has tried twice by then

_log = logging.getLogger("tweetlab")


class Limiter:
    """Decides whether a request exceeds its limits.

    For one event loop. `now_s`: wall time for local windows.
    """

    def __init__(self, store: LimitStore, knobs: LimitKnobs, now_s: Callable[[], float] = time.time) -> None:
        self._store, self._knobs, self._now_s = store, knobs, now_s
        self._windows = SlidingWindow(knobs.window_s or 1.0)
        self._unreported: Counter[str] = Counter()
        self._recovery: asyncio.Task[None] | None = None
        self._reached, self._started_s = False, time.monotonic()

    async def open(self) -> None:
        """Connect to the store, so that a slow first connection refuses no request.

        Gives up after OPEN_TRIES.
        """
        for _ in range(OPEN_TRIES):
            if await self._report():
                return
            await asyncio.sleep(PROBE_S / OPEN_TRIES)

    @property
    def local(self) -> bool:
        """Whether limits are counted locally, because the store is away."""
        return self._recovery is not None

    async def take(self, quotas: Sequence[Quota]) -> QuotaState:
        """Count one request and return whether it is admitted.

        Never fails; waits for an unresponsive store only once.
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
        """Stop trying to return to the store."""
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
        # Counts since the last report are sent before any request is: commands on one connection keep their
        # order.
        if not await self._report():
            self._go_local(StoreUnavailable("The store of the limits became unavailable again."))

    async def _wait_settled(self) -> None:
        """Return once the store has answered for SETTLE_S."""
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
        """Add the local counts to the store.

        Return False if it does not answer; those counts may then be added twice.
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
