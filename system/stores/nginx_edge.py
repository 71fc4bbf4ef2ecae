"""The CDN edge, nginx.

Links are signed here, without I/O; a purge is one request to each edge, with the lab's key.

A link names the edge of its own zone, but its signature is valid at every edge, so a purge must reach all of
them. A purge that one edge did not confirm has failed, and its caller repeats it until all have
(`services/media/collecting`): an edge that was down drops its copy once it is back. Until then it serves that
copy to holders of an older, still valid link.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Self

from system.kernel import cdn_links
from system.kernel.errors import StoreUnavailable
from system.kernel.settings import Settings

if TYPE_CHECKING:
    import aiohttp

NOT_CACHED = (404, 412)  # replies of the purge module: there was nothing to purge


class NginxEdge:
    """`MediaEdge` for the namespace's bucket. Shared by all tasks of one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._base, self._timeout_s = settings.cdn, settings.policies.deadline.store_s
        self._all = (settings.cdn, *settings.further_edges)
        self._bucket = cdn_links.bucket(settings.namespace)
        self._link_key, self._purge_key = cdn_links.link_key(settings.edge_secret), cdn_links.purge_key(settings.edge_secret)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return the edge; the first purge loads the HTTP client and connects."""
        return cls(settings)

    async def close(self) -> None:
        """Close the connections. Safe to repeat."""
        if self._session is not None:
            await self._session.close()

    async def ready(self) -> None:
        """Return immediately: a service can serve while the edge is down; only purges wait."""

    def link(self, key: str, expires_s: int) -> str:
        return cdn_links.link(self._base, self._path(key), self._link_key, int(time.time()) + expires_s)

    async def purge(self, key: str) -> None:
        import aiohttp  # imported here: most services only sign links

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        purges = (self._purge(self._session, base, key) for base in self._all)
        results = await asyncio.gather(*purges, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _purge(self, session: aiohttp.ClientSession, base: str, key: str) -> None:
        import aiohttp

        url = f"{base}{cdn_links.PURGE_PREFIX}{self._path(key)}"
        try:
            async with session.request("PURGE", url, headers={cdn_links.PURGE_HEADER: self._purge_key}) as reply:
                await reply.read()
                status = reply.status
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise StoreUnavailable(f"The edge at {base} did not purge {key}: {problem!r}; the purge is repeated.") from problem
        if status != 200 and status not in NOT_CACHED:
            raise StoreUnavailable(f"The edge at {base} answered {status} to a purge of {key}; see `tweetlab logs cdn-1`.")

    def _path(self, key: str) -> str:
        return f"/{self._bucket}/{key}"
