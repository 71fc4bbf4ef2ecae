"""Common base of the in-memory adapters: always ready, nothing to prepare, nothing to close."""

from __future__ import annotations

from typing import Self

from system.kernel.settings import Settings


class Memory:
    """An in-memory adapter. Subclasses define `_reset`, which empties it, and call it in `__init__`."""

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return an empty adapter; `settings` are ignored."""
        return cls()

    async def close(self) -> None:
        """Do nothing; the contents stay."""

    async def ready(self) -> None:
        """Always ready."""

    async def prepare(self) -> None:
        """Do nothing: there is nothing to prepare."""

    async def clear(self) -> None:
        """Remove everything."""
        self._reset()

    def _reset(self) -> None:
        raise NotImplementedError
