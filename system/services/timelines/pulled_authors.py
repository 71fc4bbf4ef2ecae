"""A copy of the pulled authors for home reads, never older than `mode_ttl_s`; without it, no page is read.

Fan-out stops pushing an author only when every such copy must contain the author (`fanout.policy`), so a read
must not use an older copy. The copy is refreshed long before it expires. While PostgreSQL does not respond,
it is used until it expires.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from system.ports import UserDirectory
from system.services.shared.ttl_value import TtlValue


class PulledAuthors:
    """All authors that are pulled or ever were, as of at most `ttl_s` ago.

    A refresh is one query, independent of the load.
    """

    def __init__(self, users: UserDirectory, ttl_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._users = users
        self._value: TtlValue[tuple[int, ...]] = TtlValue(self._read, (), "The set of pulled authors", ttl_s, now)

    async def get(self) -> tuple[int, ...]:
        """Return the ids, ascending, of the authors whose lists a read must merge.

        Raises StoreUnavailable if the copy has expired and could not be refreshed.
        """
        return await self._value.get()

    async def _read(self) -> tuple[int, ...]:
        modes = await self._users.modes()
        return tuple(sorted(mode.author_id for mode in modes if mode.pulled_once))
