"""The readers' copy of which authors are pulled: never older than `mode_ttl_s`, or no page at all.

Fan-out stops pushing an author only after the pull flag is older than this copy can be (`fanout.policy`), so
a reader must not use an older one. The copy is refreshed long before it expires; while PostgreSQL does not
answer it is used until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from system.ports import UserDirectory
from system.services.shared.ttl_value import TtlValue


class PulledAuthors:
    """All authors that are or were pulled, as of at most `ttl_s` ago.

    One query per refresh, whatever the load.
    """

    def __init__(self, users: UserDirectory, ttl_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._value: TtlValue[tuple[int, ...]] = TtlValue(self._read, (), "The set of pulled authors", ttl_s, now)

    async def get(self) -> tuple[int, ...]:
        """Return the authors that every reader merges, ids ascending.

        Raises StoreUnavailable if the copy expired unread.
        """
        return await self._value.get()

    async def _read(self) -> tuple[int, ...]:
        modes = await self._users.modes()
        return tuple(sorted(mode.author_id for mode in modes if mode.pulled_once))
