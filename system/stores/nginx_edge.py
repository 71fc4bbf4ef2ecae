"""The CDN edge, nginx: links are signed here, without I/O; a purge is one request to each edge with the key of the lab.

A link leads to the zone's own edge, but whoever has it may take its signature to any: all have to forget. A purge that one of
them did not hear has failed, and its caller asks again until all have (`services/media/collecting`): an edge that was away
forgets when it is back. Until then its copy is there for who holds a link from before, while that link lasts.
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

NOT_CACHED = (404, 412)  # of the purge module: there was nothing to forget


class NginxEdge:
    """`MediaEdge` for the bucket of the namespace. Shared by all tasks of one event loop."""

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
        """Return: a service may serve while the edge is away; only its purges wait."""

    def link(self, key: str, expires_s: int) -> str:
        return cdn_links.link(self._base, self._path(key), self._link_key, int(time.time()) + expires_s)

    async def purge(self, key: str) -> None:
        import aiohttp  # most services only make links

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self._timeout_s))
        told = await asyncio.gather(*(self._purge(self._session, base, key) for base in self._all), return_exceptions=True)
        for problem in told:
            if isinstance(problem, BaseException):
                raise problem

    async def _purge(self, session: aiohttp.ClientSession, base: str, key: str) -> None:
        import aiohttp

        url = f"{base}{cdn_links.PURGE_PREFIX}{self._path(key)}"
        try:
            async with session.request("PURGE", url, headers={cdn_links.PURGE_HEADER: self._purge_key}) as reply:
                await reply.read()
                status = reply.status
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise StoreUnavailable(f"The edge at {base} did not forget {key}: {problem!r}; it is asked again.") from problem
        if status != 200 and status not in NOT_CACHED:
            raise StoreUnavailable(f"The edge at {base} answered {status} to a purge of {key}; see `tweetlab logs cdn-1`.")

    def _path(self, key: str) -> str:
        return f"/{self._bucket}/{key}"
