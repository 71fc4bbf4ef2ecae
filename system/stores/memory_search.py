"""SearchIndex in memory: the equal of the Elasticsearch adapter, held to the same contract tests.

Words are cut as Elasticsearch's standard tokenizer cuts Latin text: letters, digits and underscores, joined by an
apostrophe or a dot inside a word; case does not matter. Visible at once, which is within the promise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from system.ports import Document

WORD = re.compile(r"\w+(?:['’.]\w+)*")


class MemorySearch:
    """The index in this process."""

    def __init__(self) -> None:
        self._documents: dict[int, Document] = {}

    async def close(self) -> None:
        """Do nothing: what is in memory stays. Safe to repeat."""

    async def ready(self) -> None:
        """Return: memory always answers."""

    async def prepare(self) -> None:
        """Do nothing: there is no schema."""

    async def clear(self) -> None:
        """Forget all documents."""
        self._documents.clear()

    async def index(self, documents: Sequence[Document]) -> None:
        for document in documents:
            stands = self._documents.get(document.tweet.id)
            if stands is None or document.version >= stands.version:
                self._documents[document.tweet.id] = document

    async def search(self, query: str, before: int | None, limit: int) -> list[int]:
        words = _words(query)
        found = [tweet_id for tweet_id, document in self._documents.items()
                 if words and not document.tweet.deleted and words <= _words(document.tweet.text)
                 and (before is None or tweet_id < before)]
        return sorted(found, reverse=True)[:limit]

    async def refresh(self) -> None:
        """Do nothing: everything is visible."""

    async def bulk_load(self, documents: Iterable[Document]) -> int:
        """Index many documents. Return how many. Safe to repeat."""
        batch = list(documents)
        await self.index(batch)
        return len(batch)


def _words(text: str) -> set[str]:
    return {word.lower() for word in WORD.findall(text)}
