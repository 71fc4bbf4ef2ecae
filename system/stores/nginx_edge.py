"""The CDN edge, nginx: links are signed here, without I/O; a purge is one request with the key of the lab."""

from __future__ import annotations

import time
from typing import Self

import aiohttp
import yarl

from system.kernel import edge
from system.kernel.errors import StoreUnavailable
from system.kernel.settings import Settings

NOT_CACHED = (404, 412)  # of the purge module: there was nothing to forget


class NginxEdge:
    """`MediaEdge` for the bucket of the namespace. Shared by all tasks of one event loop."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session, self._base = session, settings.cdn
        self._bucket = edge.bucket(settings.namespace)
        self._link_key, self._purge_key = edge.link_key(settings.edge_secret), edge.purge_key(settings.edge_secret)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return the edge; the first purge connects."""
        timeout_s = settings.policies.deadline.store_s
        return cls(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)), settings)

    async def close(self) -> None:
        """Close the connections. Safe to repeat."""
        await self._session.close()

    async def ready(self) -> None:
        """Return: a service may serve while the edge is away; only its purges wait."""

    def link(self, key: str, expires_s: int) -> str:
        return edge.link(self._base, self._path(key), self._link_key, int(time.time()) + expires_s)

    async def purge(self, key: str) -> None:
        url = yarl.URL(f"{self._base}{edge.PURGE_PREFIX}{self._path(key)}", encoded=True)
        try:
            async with self._session.request("PURGE", url, headers={edge.PURGE_HEADER: self._purge_key}) as reply:
                await reply.read()
                status = reply.status
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise StoreUnavailable(f"The edge at {self._base} did not forget {key}: {problem!r}; it is asked again.") from problem
        if status != 200 and status not in NOT_CACHED:
            raise StoreUnavailable(f"The edge at {self._base} answered {status} to a purge of {key}; see `tweetlab logs cdn-1`.")

    def _path(self, key: str) -> str:
        return f"/{self._bucket}/{key}"
