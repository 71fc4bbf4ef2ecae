"""The readers' view of which authors are pulled: never older than `mode_ttl_s`, or no page at all.

Fan-out stops pushing an author only after his flag is older than this view can be (`fanout.policy`), so a
reader must not use an older one. The view is refreshed well before it expires; while PostgreSQL does not answer it
serves until its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from system.ports import UserDirectory
from system.services.shared.ttl_value import View


class PulledAuthors:
    """All authors that are or were pulled, as of at most `ttl_s` ago. One query per refresh, whatever the load."""

    def __init__(self, users: UserDirectory, ttl_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._view: View[tuple[int, ...]] = View(self._read, (), "The pulled authors", ttl_s, now)

    async def pulled(self) -> tuple[int, ...]:
        """Return the authors whom every reader merges. Raises StoreUnavailable where no young enough view can be had."""
        return await self._view.get()

    async def _read(self) -> tuple[int, ...]:
        modes = await self._users.modes()
        return tuple(sorted(mode.author_id for mode in modes if mode.pulled_once))
