"""Documents and queries for the contract tests of SearchIndex."""

from __future__ import annotations

from typing import Any

from system.kernel.events import Tweet
from system.kernel.search_query import Query, Word
from system.ports import Ask, Document

FIRST = 2_100_000_000_000_000_001  # far above 2^53: not representable as a double
NOW_MS = 1_800_000_000_000


def document(number: int, text: str, author_id: int = 42, *, version: int = 1, deleted: bool = False, created_ms: int = NOW_MS,
             likes: int = 0, reply_to: int | None = None, recipient: int | None = None, media: tuple[str, ...] = ()) -> Document:
    """Return the document of tweet FIRST + `number`. `reply_to`: the number of the tweet it replies to, of user `recipient`."""
    parent = None if reply_to is None else FIRST + reply_to
    tweet = Tweet(FIRST + number, author_id, text, created_ms, parent or FIRST + number, parent, media, deleted)
    return Document(tweet, version, likes, recipient)


def words(text: str) -> Query:
    """Return a query for all these words."""
    return Query(tuple(Word(word) for word in text.split()))


async def found(index: Any, query: Query, **more: Any) -> list[int]:
    """Return the numbers of the documents that match, after a refresh."""
    await index.refresh()
    page = await index.search(Ask(query, **({"limit": 10} | more)))
    return [hit.id - FIRST for hit in page.hits]
