"""Full text of tweets: Elasticsearch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from system.kernel.events import Tweet


@dataclass(frozen=True)
class Document:
    """A tweet as the index holds it. `version`: external, the time (ns) at which the truth was read; the newest wins."""

    tweet: Tweet
    version: int


class SearchIndex(Protocol):
    """Full text of tweets. Visible within about a second (`refresh_interval: 1s`)."""

    async def index(self, documents: Sequence[Document]) -> None:
        """Index in bulk. Safe to repeat; an older version never overwrites a newer one. Deleted tweets stay as `deleted`."""
        ...

    async def search(self, query: str, before: int | None, limit: int) -> list[int]:
        """Return ids of live tweets that hold all words of `query`, newest first, below `before`."""
        ...

    async def refresh(self) -> None:
        """Make what was indexed visible now. For tests and final reads."""
        ...
