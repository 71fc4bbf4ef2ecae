"""What every adapter in memory does alike: open as soon as it is made, always ready, nothing to prepare, nothing to close."""

from __future__ import annotations

from typing import Self

from system.kernel.settings import Settings


class Memory:
    """An adapter in this process. Who inherits gives `_forget`, which makes it empty, and calls it when it is made."""

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Return an empty one; `settings` are not read."""
        return cls()

    async def close(self) -> None:
        """Keep everything; there is nothing to close."""

    async def ready(self) -> None:
        """Always ready."""

    async def prepare(self) -> None:
        """Nothing to prepare."""

    async def clear(self) -> None:
        """Forget everything."""
        self._forget()

    def _forget(self) -> None:
        raise NotImplementedError
