"""What changed of users since this process last asked: so that what it keeps of them need not live out its time.

Asked at most once in `EVERY_S`, whatever the load. Where Redis does not answer, nothing is learned and what is kept
lives until its own time is over: that time bounds every staleness, the news only shorten it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from system.kernel.errors import StoreUnavailable
from system.ports import TweetCache

EVERY_S = 1.0

Forget = Callable[[frozenset[int] | None], None]
"""Called with the users that changed; None: anything may have."""


class ChangeFeed:
    """The news of one process; `forget` is told."""

    def __init__(self, hot: TweetCache, forget: Forget, now: Callable[[], float] = time.monotonic) -> None:
        self._hot, self._forget, self._now = hot, forget, now
        self._mark = -1
        self._asked_s = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def heard(self) -> None:
        """Return when the news are at most `EVERY_S` old; callers share one question."""
        if self._now() - self._asked_s < EVERY_S:
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        began_s = self._now()
        try:
            mark, changed = await self._hot.changes(self._mark)
        except StoreUnavailable:
            self._asked_s = began_s  # what is kept lives until its own time is over
            return
        if changed is None or changed:
            self._forget(changed)
        self._mark, self._asked_s = mark, began_s
