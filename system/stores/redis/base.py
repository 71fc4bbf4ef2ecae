"""Common base of the caches on Redis: an own or shared connection, health check, deletion by pattern."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

from system.kernel.settings import Settings, group_of
from system.stores.redis.link import Link


class Redis:
    """An adapter on a `Link`. Shared by all tasks of one event loop."""

    def __init__(self, link: Link, settings: Settings) -> None:
        self.link = link

    @classmethod
    async def open(cls, settings: Settings, link: Link | None = None) -> Self:
        """Connect, or use `link`, the connection of another adapter.

        Raises StoreUnavailable (definite) if no server answers.
        """
        return cls(link or await open_link(settings), settings)

    async def close(self) -> None:
        """Close the connection. Safe to repeat."""
        await self.link.close()

    async def ready(self) -> None:
        """Return if Redis answers. Raises StoreUnavailable."""
        await self.link.call("PING")


async def open_link(settings: Settings) -> Link:
    """Return a connection to the cache: to its single server, or to the primary that the sentinels name."""
    group = group_of(settings.stores.redis)
    if group is None:
        return await Link.open(settings)
    from system.stores.redis.sentinel import SentinelLink

    return await SentinelLink.of(settings, group)


async def clear(link: Link, pattern: str) -> None:
    """Delete the keys of this namespace that match `pattern` after the prefix."""
    async for part in _scanned(link, pattern):
        await link.call("UNLINK", *part)


async def keys(link: Link, pattern: str) -> list[bytes]:
    """Return the keys of this namespace that match `pattern` after the prefix, each once."""
    return list({key: None async for part in _scanned(link, pattern) for key in part})


async def _scanned(link: Link, pattern: str) -> AsyncIterator[list[bytes]]:
    cursor = b"0"
    while True:
        cursor, part = await link.call("SCAN", cursor, "MATCH", link.prefix + pattern, "COUNT", 2000)
        if part:
            yield part
        if cursor == b"0":
            return
